"""A model may be spread over devices: what is read, put in and scored is what it is on one."""

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.utils.operations import recursively_apply
from plain_loop import ANSWERS, TEXTS, build

from task_vectors.lm.finetuning import Tuning, train
from task_vectors.lm.forward import states_at
from task_vectors.lm.interventions import capture, continue_greedily, inject, layer_sweep, unembed
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.saliency import attention_saliency
from task_vectors.lm.scoring import score
from task_vectors.tasks.families.bitwise import bitwise_arithmetic


def everything(lm: LanguageModel) -> list[torch.Tensor]:
    """A number of each public function that runs the model."""
    torch.manual_seed(0)
    vectors = torch.randn(len(TEXTS), lm.n_layers, lm.d_model)
    written = continue_greedily(lm, TEXTS, vectors=vectors[:, 1], layer=1, max_tokens=4)
    with torch.no_grad(), inject(lm, vectors[:1, 1], 1):
        inside = lm.model(torch.tensor([lm.tokenizer(TEXTS[0]).input_ids])).logits
    return [
        capture(lm, TEXTS[:2], shared=2),
        written.first_tokens,
        written.states,
        layer_sweep(lm, TEXTS, vectors),
        *layer_sweep(lm, TEXTS, vectors, ANSWERS),
        *score(lm, TEXTS, ANSWERS),
        states_at(lm, TEXTS, torch.tensor([[-1, -2]] * 3)),
        unembed(lm, vectors[:, 0]),
        inside,
        attention_saliency(lm, TEXTS[0], ANSWERS[1]),
    ]


def loaded_as_needed(model) -> None:
    """Each module's weights come from main memory when it runs, as where a GPU is too small for the model."""
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


class Copies(AlignDevicesHook):
    """A layer gets copies of all tensors, as if it lay on another device."""

    def pre_forward(self, module, *args, **kwargs):
        return recursively_apply(torch.clone, args), recursively_apply(torch.clone, kwargs)


def spread(model) -> None:
    for layer in LanguageModel("", model, None).layers:
        add_hook_to_module(layer, Copies())


@pytest.mark.parametrize("place", [loaded_as_needed, spread])
@pytest.mark.parametrize("architecture", ["gemma3_text", "gpt2", "qwen3"])
def test_all_is_as_on_one_device(architecture, place):
    lm = build(architecture, "bytes")
    expected = everything(lm)
    place(lm.model)
    assert lm.device == torch.device("cpu")
    for found, wanted in zip(everything(lm), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_training_is_as_on_one_device():
    lm, family = build("gpt2", "bytes"), bitwise_arithmetic(3)
    tuning = Tuning((1,), rank=2, steps=3, batch=2, warm_up=1, n_demos=1)
    _, expected, _ = train(lm, family, tuning)
    spread(lm.model)
    torch.testing.assert_close(train(lm, family, tuning)[1], expected)
    lm = build("gpt2", "bytes")
    loaded_as_needed(lm.model)
    with pytest.raises(ValueError, match="tiny gpt2 is loaded piece by piece"):
        train(lm, family, tuning)
