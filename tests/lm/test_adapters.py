"""An adapter is on the layers that it should be on, computes the sum of weights, and leaves the model as it was."""

from dataclasses import replace

import pytest
import torch
from transformers.pytorch_utils import Conv1D
from tunings import COMPLETIONS, FAMILY, TEXTS, TUNING, logits, scrambled

from task_vectors.lm.finetuning import (
    adapted,
    answer_loss,
    bands,
    n_trained_parameters,
    target_modules,
    train,
    tuned,
)
from task_vectors.lm.forward import layer_edits
from task_vectors.lm.interventions import capture
from task_vectors.lm.tokens import whole_lines


@pytest.mark.parametrize(
    ("td_layer", "expected"),
    [
        (8, {"up to TD": (3, 4, 5, 6, 7, 8), "after TD": (9, 10, 11, 12, 13, 14)}),
        (2, {"up to TD": (0, 1, 2), "after TD": (3, 4, 5, 6, 7, 8)}),
        (15, {"up to TD": (10, 11, 12, 13, 14, 15), "after TD": (16, 17)}),
        (17, {"up to TD": (12, 13, 14, 15, 16, 17), "after TD": ()}),
    ],
)
def test_bands_end_and_begin_at_the_layer_where_decodability_is_read(td_layer, expected):
    found = bands(18, td_layer)
    assert found["first"] == (0, 1, 2, 3, 4, 5)
    assert found["last"] == (12, 13, 14, 15, 16, 17)
    assert found["all"] == tuple(range(18))
    assert found["up to TD"] == expected["up to TD"]
    assert found["after TD"] == expected["after TD"]


@pytest.mark.parametrize(("td_layer", "size"), [(18, 6), (-1, 6), (3, 0), (3, 19)])
def test_bands_that_are_not_there_are_refused(td_layer, size):
    with pytest.raises(ValueError, match="in a model of 18 layers"):
        bands(18, td_layer, size)


def test_all_linear_modules_of_the_band_and_no_others_get_an_adapter(tiny):
    tuning = replace(TUNING, layers=(2, 0))
    names = target_modules(tiny, tuning)
    expected = {id(m) for layer in (0, 2) for m in tiny.layers[layer].modules() if type(m) in (torch.nn.Linear, Conv1D)}
    assert {id(tiny.model.get_submodule(name)) for name in names} == expected
    assert len(names) == len(expected)
    number = n_trained_parameters(tiny, tuning)
    with adapted(tiny, tuning, training=True) as parameters:
        assert sum(p.numel() for p in parameters.values()) == number
        found = {name for name, p in tiny.model.named_parameters() if p.requires_grad}
        assert {name.partition(".lora_")[0] for name in found} == set(names)


def test_targets_can_be_named(tiny_llama):
    names = target_modules(tiny_llama, replace(TUNING, targets=("q_proj", "down_proj")))
    assert names == ["model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
    # q: 32 in, 4 heads of 8; down: 48 in, 32 out
    assert n_trained_parameters(tiny_llama, replace(TUNING, targets=("q_proj", "down_proj"))) == 2 * (64 + 80)


def test_an_untrained_adapter_changes_nothing_and_a_trained_one_does(tiny):
    before = logits(tiny)
    with adapted(tiny, TUNING, training=True):
        assert torch.equal(logits(tiny), before)
    with tuned(tiny, scrambled(tiny, TUNING)):
        assert not torch.allclose(logits(tiny), before, atol=1e-2)


def test_the_model_is_exactly_what_it_was_afterwards(tiny):
    def everything():
        parameters = [(name, id(p), p.requires_grad) for name, p in tiny.model.named_parameters()]
        modules = [(name, id(module), module.training) for name, module in tiny.model.named_modules()]
        return parameters, modules, set(vars(tiny.model))

    before, expected = everything(), logits(tiny)
    adapter = scrambled(tiny, replace(TUNING, layers=(0, 2)))
    with tuned(tiny, adapter) as lm:
        assert lm is tiny
        assert not any(p.requires_grad for p in tiny.model.parameters())
    assert everything() == before
    with pytest.raises(KeyboardInterrupt), tuned(tiny, adapter):
        raise KeyboardInterrupt
    assert everything() == before
    train(tiny, FAMILY, TUNING, stop=1)
    assert everything() == before
    assert torch.equal(logits(tiny), expected)


def test_an_adapter_that_is_on_computes_the_sum_of_weights(tiny):
    """W + alpha / rank · B A put into the weights themselves gives the same logits; they are of one precision."""
    adapter = scrambled(tiny, replace(TUNING, layers=(0, 1), dropout=0.5))
    with tuned(tiny, adapter):
        found = logits(tiny)
    kept = {name: p.detach().clone() for name, p in tiny.model.named_parameters()}
    try:
        for name in target_modules(tiny, adapter.tuning):
            module = tiny.model.get_submodule(name)
            A, B = (adapter.weights[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
            with torch.no_grad():
                module.weight += 2 * ((B @ A).T if isinstance(module, Conv1D) else B @ A)
        torch.testing.assert_close(found, logits(tiny), rtol=1e-4, atol=1e-4)
    finally:
        tiny.model.load_state_dict(kept, strict=False)


def test_gradients_are_those_of_the_weights_seen_through_a(tiny):
    """At B = 0 the gradient of B is alpha / rank · ∂loss/∂W Aᵀ, and that of A is 0."""
    tuning = replace(TUNING, dropout=0)
    names = target_modules(tiny, tuning)
    answer_loss(tiny, whole_lines(tiny, TEXTS, COMPLETIONS)).backward()
    full = {name: tiny.model.get_submodule(name).weight.grad for name in names}
    tiny.model.zero_grad()
    with adapted(tiny, tuning, training=True) as parameters:
        answer_loss(tiny, whole_lines(tiny, TEXTS, COMPLETIONS)).backward()
        for name in names:
            A, B = (parameters[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
            weight = full[name].T if isinstance(tiny.model.get_submodule(name).base_layer, Conv1D) else full[name]
            torch.testing.assert_close(B.grad, 2 * weight @ A.T, rtol=1e-3, atol=1e-5)
            assert B.grad.abs().max() > 0
            assert not A.grad.any()
        assert all(p.grad is None for p in tiny.model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("lowest", [0, 1, 2])
def test_nothing_below_the_lowest_trained_layer_has_a_graph(tiny, lowest):
    needs = {}
    edits = {layer: lambda hidden, layer=layer: needs.update({layer: hidden.requires_grad}) for layer in range(3)}
    layers = tuple(sorted({lowest, 2}))
    with adapted(tiny, replace(TUNING, layers=layers), training=True), layer_edits(tiny, edits):
        answer_loss(tiny, whole_lines(tiny, TEXTS, COMPLETIONS))
    assert needs == {layer: layer >= lowest for layer in range(3)}


def test_states_below_the_band_are_unchanged_by_training(tiny):
    """And so is Task Decodability there, whatever is learned."""
    adapter, _, _ = train(tiny, FAMILY, replace(TUNING, rate=0.1), stop=4)
    before = capture(tiny, TEXTS)
    with tuned(tiny, adapter):
        after = capture(tiny, TEXTS)
    assert torch.equal(after[:, 0], before[:, 0])
    for layer in (1, 2):
        assert not torch.allclose(after[:, layer], before[:, layer], atol=1e-3)
