"""Saliency of a prompt equals autograd through the model's own eager attention, and leaves the model as it was."""

import copy

import pytest
import torch
from tiny_models import tiny_model

import task_vectors.lm.saliency
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.saliency import attention_saliency
from task_vectors.lm.tokens import answer_tokens, tokenize

# Two ways in float32 through all layers and back, as shares of a layer's largest saliency.
CLOSE = {"atol": 2e-5, "rtol": 1e-3}
# gemma-3-270m loses digits on the way: its eager autograd in float32 is 5e-4 off the same in float64.
REAL = {"atol": 1e-3, "rtol": 1e-3}
TEXT = "Example:cat → cats\nExample:dog → dogs\nExample:cow →"


def by_eager_autograd(lm: LanguageModel, text: str, target: str) -> torch.Tensor:
    """Σ_heads |A ∘ ∂loss/∂A| [L, T, T], with every layer's attention and its gradient in memory."""
    model = copy.deepcopy(lm.model).requires_grad_()  # another test may have frozen it
    model.set_attn_implementation("eager")
    answer = answer_tokens(lm, [text], [target])[0]
    ids = torch.tensor([tokenize(lm, [text])[0] + answer])
    out = model(ids[:, :-1], output_attentions=True, use_cache=False)
    for attention in out.attentions:
        attention.retain_grad()
    log_probs = out.logits[0].log_softmax(-1)
    (-sum(log_probs[i, ids[0, i]] for i in range(-len(answer), 0))).backward()
    return torch.stack([(a * a.grad).abs().sum(1)[0] for a in out.attentions]).detach()


def check(lm: LanguageModel, text: str = TEXT, target: str = " cows", tolerance: dict = CLOSE) -> torch.Tensor:
    ours, expected = attention_saliency(lm, text, target), by_eager_autograd(lm, text, target)
    assert ours.dtype == torch.float32
    largest = expected.amax((1, 2), keepdim=True)  # [L, 1, 1]
    assert (largest > 0).all()
    torch.testing.assert_close(ours / largest, expected / largest, **tolerance)
    return ours


@pytest.mark.parametrize("target", [" ", " cows"])
def test_equals_eager_autograd(tiny, target):
    check(tiny, TEXT, target)


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3_text", "mistral"])
def test_equals_eager_autograd_in_a_sliding_window(architecture):
    lm = tiny_model(architecture)
    lm.model.config.sliding_window = 16
    saliency = check(lm)
    beyond = torch.ones_like(saliency[0]).tril(-16) > 0  # 16 tokens back or more
    assert beyond.any()
    assert not saliency[0, beyond].any()


def test_equals_eager_autograd_where_a_softcap_matters():
    lm = tiny_model("gemma2")
    mild = attention_saliency(lm, TEXT, " cows")
    for layer in lm.layers:
        layer.self_attn.attn_logit_softcapping = 0.5
    assert not torch.allclose(check(lm), mild, rtol=0.1)


def test_tokens_are_those_that_are_read_and_none_looks_ahead(tiny):
    n = len(tokenize(tiny, [TEXT])[0])
    for target, length in ((" ", n), (" cows", n + 4)):
        saliency = attention_saliency(tiny, TEXT, target)
        assert saliency.shape == (tiny.n_layers, length, length)
        assert not saliency.triu(1).any()


def test_last_layer_is_looked_at_from_where_the_answer_is_predicted(tiny):
    """What the last layer writes into other tokens no later layer reads."""
    saliency = attention_saliency(tiny, TEXT, " ")
    assert saliency[-1, -1].any()
    assert not saliency[-1, :-1].any()
    assert saliency[0, :-1].any()


def test_a_text_of_one_token(tiny_llama):
    assert check(tiny_llama, "a", "b").shape == (3, 1, 1)


def test_half_type_model_gives_float32():
    lm = tiny_model("llama")
    whole = attention_saliency(lm, TEXT, " cows")
    lm.model.bfloat16()
    half = attention_saliency(lm, TEXT, " cows")
    assert half.dtype == torch.float32
    correlation = torch.corrcoef(torch.stack([whole.flatten(), half.flatten()]))[0, 1]
    assert correlation > 0.98  # the tiny models' large weights make much of bfloat16's 8 bits


def state(lm: LanguageModel) -> list:
    """All of a model that a run with gradients could change."""
    modules = list(lm.model.modules())
    hooks = [len(getattr(m, name)) for m in modules for name in vars(m) if name.endswith("_hooks")]
    patched = [m for m in modules if "forward" in vars(m)]
    flags = [(p.requires_grad, p.grad) for p in lm.model.parameters()]
    return [lm.model.config._attn_implementation, hooks, patched, flags, [m.training for m in modules]]


@pytest.mark.parametrize("grad", [True, False])
def test_the_model_is_left_as_it_was(tiny, grad):
    lm = LanguageModel(tiny.name, copy.deepcopy(tiny.model), tiny.tokenizer)
    next(lm.model.parameters()).requires_grad_(False)
    before = state(lm)
    with torch.set_grad_enabled(grad):
        first = attention_saliency(lm, TEXT, " cows")
        assert torch.is_grad_enabled() == grad
    assert state(lm) == before
    assert not first.requires_grad
    torch.testing.assert_close(attention_saliency(tiny, TEXT, " cows"), first)


@pytest.mark.parametrize("where", ["sdpa_attention_forward", "head_saliency"])
def test_the_model_is_left_as_it_was_after_an_error(tiny_llama, where, monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    before = state(tiny_llama)
    monkeypatch.setattr(task_vectors.lm.saliency, where, fail)
    with pytest.raises(ZeroDivisionError):
        attention_saliency(tiny_llama, TEXT, " cows")
    assert state(tiny_llama) == before


@pytest.mark.parametrize(("text", "target"), [("", " cows"), (TEXT, "")])
def test_empty_input_gets_one_clear_line(tiny_llama, text, target):
    with pytest.raises(ValueError, match="may be empty") as caught:
        attention_saliency(tiny_llama, text, target)
    assert len(str(caught.value).splitlines()) == 1


def test_a_text_beyond_the_context_gets_one_clear_line():
    lm = tiny_model("gpt2")
    context = lm.model.config.max_position_embeddings
    assert attention_saliency(lm, "a" * context, "b").shape == (3, context, context)
    with pytest.raises(ValueError, match=f"{context + 1} tokens .* the context of tiny gpt2 is {context}: ") as caught:
        attention_saliency(lm, "a" * context, "bc")
    assert len(str(caught.value).splitlines()) == 1


def test_a_target_that_is_no_continuation_gets_one_clear_line():
    lm = tiny_model("llama")
    lm.tokenizer.add_tokens(["→ c"])  # the arrow and the answer's beginning in one
    with pytest.raises(ValueError, match="not a beginning") as caught:
        attention_saliency(lm, TEXT, " cows")
    assert len(str(caught.value).splitlines()) == 1


def test_attention_that_cannot_be_watched_is_refused(tiny_llama, monkeypatch):
    """Some architectures do not ask transformers for the attention function."""
    unwatched = torch.nn.functional.scaled_dot_product_attention

    def attend(module, q, k, v, mask, **kwargs):
        return unwatched(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2), None

    monkeypatch.setattr(task_vectors.lm.saliency, "_attend", attend)
    with pytest.raises(NotImplementedError, match=r"tiny llama \(llama\) cannot be watched") as caught:
        attention_saliency(tiny_llama, TEXT, " cows")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_gemma_equals_eager_autograd(gemma):
    for target, more in ((" cows", 0), (" cows\n", 1)):
        assert len(answer_tokens(gemma, [TEXT], [target])[0]) == 1 + more
        saliency = check(gemma, TEXT, target, REAL)
        assert saliency.shape[1] == len(tokenize(gemma, [TEXT])[0]) + more
