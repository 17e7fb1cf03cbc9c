"""One forward pass gives the states that capture gives and the answers that greedy decoding gives."""

import pytest
import torch
import transformers
from tiny_models import byte_tokenizer
from transformers import AutoModelForCausalLM

from task_vectors.lm.answers import end_of_line_ids
from task_vectors.lm.interventions import capture, continue_greedily, layer_sweep
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.scoring import Scores, score

TEXTS = ["1 -> 2\n3 ->", "10110 01101 -> 00100\n01 ->", "a ->", "b -> c\nd -> e\nf ->"]
ANSWERS = [" 4", " 00100", " bb", " g h"]
ROOM = 12


def tiny_mamba(version: str) -> LanguageModel:
    shapes = {
        "mamba": {"hidden_size": 32, "state_size": 4},
        "mamba2": {"hidden_size": 32, "num_heads": 8, "head_dim": 8},
    }
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = getattr(transformers, f"{version.capitalize()}Config")(
        vocab_size=len(tokenizer), num_hidden_layers=3, initializer_range=0.3, **shapes[version]
    )
    return LanguageModel(f"tiny {version}", AutoModelForCausalLM.from_config(config).eval(), tokenizer)


def same(found: Scores, expected: Scores) -> None:
    torch.testing.assert_close(found.states, expected.states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.log_prob, expected.log_prob, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.right, expected.right)
    assert torch.equal(found.first, expected.first)


def test_states_are_those_of_capture(tiny):
    states = score(tiny, TEXTS, ANSWERS).states
    torch.testing.assert_close(states, capture(tiny, TEXTS), rtol=1e-4, atol=1e-4)


def test_scores_are_those_of_a_sweep_that_puts_own_states_back(tiny):
    found = score(tiny, TEXTS, ANSWERS)
    sweep = layer_sweep(tiny, TEXTS, found.states, ANSWERS)
    torch.testing.assert_close(found.log_prob, sweep.log_prob[:, 0], rtol=1e-4, atol=1e-4)
    assert torch.equal(found.right, sweep.exact[:, 0])


def greedy_lines(lm):
    """Prompts with what greedy decoding writes after them: after a space, as it is, and with a letter too much."""
    texts = [f"{i} -> {j}\n{i + j} ->" for i in range(12) for j in range(4)]
    lines = continue_greedily(lm, texts, max_tokens=ROOM).texts
    texts, lines = zip(*[pair for pair in zip(texts, lines, strict=True) if pair[1]], strict=True)
    return list(texts) * 3, [*(f" {line}" for line in lines), *lines, *(f"{line}x" for line in lines)]


def alone(lm, text, answer):
    """The likeliest tokens from the prompt's last one on, by a forward of this prompt, and the answer's own tokens."""
    prompt, ids = (lm.tokenizer(part).input_ids for part in (text, text + answer))
    best = lm.model(torch.tensor([ids])).logits[0].argmax(-1)[len(prompt) - 1 :].tolist()
    return best, ids[len(prompt) :]


def test_right_is_what_a_forward_for_each_prompt_alone_says(tiny):
    texts, answers = greedy_lines(tiny)
    found, ends = score(tiny, texts, answers).right, end_of_line_ids(tiny)
    for right, text, answer in zip(found, texts, answers, strict=True):
        best, tokens = alone(tiny, text, answer)
        assert right == (best[:-1] == tokens and best[-1] in ends)
    assert not found.all()


def test_first_is_what_a_forward_for_each_prompt_alone_says(tiny):
    texts, answers = greedy_lines(tiny)
    found = score(tiny, texts, answers)
    expected = []
    for text, answer in zip(texts, answers, strict=True):
        best, tokens = alone(tiny, text, answer)
        expected.append(best[0] == tokens[0])
    assert found.first.tolist() == expected
    assert found.first[found.right].all()
    assert (found.first & ~found.right).any()
    assert not found.first.all()


@pytest.mark.parametrize("version", ["mamba", "mamba2"])
def test_state_space_models_are_read_one_by_one_and_together_alike(version):
    lm = tiny_mamba(version)
    together = score(lm, TEXTS, ANSWERS)
    assert together.states.shape == (len(TEXTS), 3, 32)
    for i, pair in enumerate(zip(TEXTS, ANSWERS, strict=True)):
        same(Scores(*(part[i : i + 1] for part in together)), score(lm, *([x] for x in pair)))


def test_batches_change_nothing(tiny):
    expected = score(tiny, TEXTS, ANSWERS)
    same(score(tiny, TEXTS, ANSWERS, batch=1), expected)
    same(score(tiny, TEXTS, ANSWERS, batch=80), expected)


def test_too_little_memory_halves_the_batch(tiny_llama, monkeypatch):
    expected, sizes = score(tiny_llama, TEXTS, ANSWERS), []
    forward = tiny_llama.model.forward

    def small(ids, **kwargs):
        sizes.append(len(ids))
        if len(ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(ids, **kwargs)

    monkeypatch.setattr(tiny_llama.model, "forward", small)
    same(score(tiny_llama, TEXTS, ANSWERS), expected)
    assert sizes == [4, 2, 1, 1, 1, 1]


def test_a_prompt_that_no_memory_holds_fails(tiny_llama, monkeypatch):
    def never(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny_llama.model, "forward", never)
    with pytest.raises(torch.OutOfMemoryError):
        score(tiny_llama, TEXTS[:1], ANSWERS[:1])


def test_half_precision_stays_half(tiny_llama):
    tokenizer, config = tiny_llama.tokenizer, tiny_llama.model.config
    half = LanguageModel("half", AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval(), tokenizer)
    assert score(half, TEXTS, ANSWERS).states.dtype == torch.bfloat16


def test_a_prompt_longer_than_the_context_is_told_before_any_forward(tiny_llama, monkeypatch):
    monkeypatch.setattr(tiny_llama.model.config, "max_position_embeddings", 20)
    monkeypatch.setattr(tiny_llama.model, "forward", None)
    with pytest.raises(ValueError, match="the longest prompt has 32 tokens .* context of tiny llama is 20"):
        score(tiny_llama, TEXTS, ANSWERS)


def test_an_answer_is_missing(tiny_llama):
    with pytest.raises(ValueError, match="got 4 and 3"):
        score(tiny_llama, TEXTS, ANSWERS[:3])


def test_real_gemma_says_and_scores_the_same(gemma):
    texts = [f"Example:{x} → {y}\nExample:{z} →" for x, y, z in (("cat", "cats", "dog"), ("hot", "cold", "big"))]
    written = continue_greedily(gemma, texts, max_tokens=8).texts
    found = score(gemma, texts * 2, [f" {line}" for line in written] + [" xylophone"] * 2)
    assert found.right.tolist() == [True, True, False, False]
