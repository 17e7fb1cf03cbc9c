"""What does not fit into a model's context is refused before the first forward pass, on every path."""

import pytest
import torch
import transformers
from tiny_models import CONFIGS, GROUPED, byte_tokenizer
from transformers import AutoModelForCausalLM, Phi3Config

from task_vectors.lm.forward import states_at
from task_vectors.lm.interventions import capture, continue_greedily, layer_sweep
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.saliency import attention_saliency
from task_vectors.lm.scoring import score
from task_vectors.lm.task_vector import evaluate
from task_vectors.lm.tokens import context_length
from task_vectors.tasks.task import Task

CONTEXT = 40
SHORT, LONG = "abc -> d\nef ->", "abc -> d\n" * 5 + "ef ->"
WORDS = Task("doubling", "letters", tuple((f"{a}{b}", f"{a}{b}{a}") for a in "abcdefgh" for b in "klmnopq"))


def short_sighted(architecture: str) -> LanguageModel:
    name, shape = CONFIGS[architecture]
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = getattr(transformers, name)(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, **shape)
    return LanguageModel(f"tiny {architecture}", AutoModelForCausalLM.from_config(config).eval(), tokenizer)


@pytest.fixture(params=["gpt2", "gpt_neox", "llama", "gemma3_text"])
def blind(request, monkeypatch) -> LanguageModel:
    """A model with a context of 40 tokens that must not be asked."""
    lm = short_sighted(request.param)

    def forward(*args, **kwargs):
        raise AssertionError("a forward pass was run")

    for module in (lm.model, lm.model.base_model):
        monkeypatch.setattr(module, "forward", forward)
    return lm


PATHS = {
    "capture": lambda lm: capture(lm, [SHORT, LONG]),
    "continue_greedily": lambda lm: continue_greedily(lm, [SHORT, LONG]),
    "generated tokens": lambda lm: continue_greedily(lm, [SHORT], max_tokens=CONTEXT - len(SHORT) + 2),
    "layer_sweep": lambda lm: layer_sweep(lm, [SHORT, LONG], torch.zeros(2, 3, 32)),
    "layer_sweep with answers": lambda lm: layer_sweep(lm, [SHORT], torch.zeros(1, 3, 32), [" " + "x" * CONTEXT]),
    "score": lambda lm: score(lm, [SHORT, LONG], [" x", " x"]),
    "states_at": lambda lm: states_at(lm, [LONG], torch.tensor([[-1]])),
    "evaluate": lambda lm: evaluate(lm, WORDS, 4, [0], n_prompts=4, n_selection=4),
    "saliency": lambda lm: attention_saliency(lm, LONG, " x"),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_too_long_a_prompt_is_refused_before_anything_runs(blind, path):
    with pytest.raises(ValueError, match=r"the longest prompt has \d+ tokens .* but the context of tiny \w+ is 40"):
        path(blind)


def test_what_just_fits_is_read():
    lm = short_sighted("gpt2")
    room = CONTEXT - len(lm.tokenizer(SHORT).input_ids)
    assert len(continue_greedily(lm, [SHORT], max_tokens=room + 1).texts) == 1  # the last token is written, not read


def test_long_rotary_scaling_never_depends_on_the_batch():
    """Past its length of pretraining Phi-3 rotates the whole batch otherwise, the short prompts in it too."""
    torch.manual_seed(0)
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    tokenizer = byte_tokenizer()
    config = Phi3Config(
        vocab_size=len(tokenizer), **GROUPED, max_position_embeddings=256, original_max_position_embeddings=CONTEXT,
        rope_parameters={**scaling, "rope_theta": 10_000.0, "original_max_position_embeddings": CONTEXT},
        pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    lm = LanguageModel("tiny phi", AutoModelForCausalLM.from_config(config).eval(), tokenizer)
    assert context_length(lm) == CONTEXT
    with torch.no_grad():
        ids = torch.tensor([lm.tokenizer(SHORT).input_ids])
        long = torch.tensor([lm.tokenizer(LONG).input_ids])
        alone = lm.model(ids).logits[0, -1]
        pads = torch.zeros(1, long.shape[1] - ids.shape[1], dtype=torch.long)
        beside = lm.model(torch.cat([torch.cat([ids, pads], 1), long])).logits[0, ids.shape[1] - 1]
    assert not torch.allclose(alone, beside, atol=1e-2)  # the fault that is refused
    alone = score(lm, [SHORT], [" d"]).log_prob
    torch.testing.assert_close(score(lm, [SHORT, SHORT + " d"], [" d", "d"]).log_prob[:1], alone)
    with pytest.raises(ValueError, match="the context of tiny phi is 40"):
        score(lm, [SHORT, LONG], [" d", " d"])
