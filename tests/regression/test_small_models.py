"""The small GPT and the LSTM: what they compute, and that states taken out of the middle can be put back."""

import math
from importlib import import_module

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from task_vectors.paths import project_root
from task_vectors.regression.gpt import GPT, causal_attention
from task_vectors.regression.lstm import LSTM

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64 against float64, through a few layers
ENTRIES, TOKENS, LAYERS, WIDTH, HEADS = 5, 9, 3, 8, 4
both_models = pytest.mark.parametrize("architecture", ["gpt", "lstm"])


def model_of(architecture, layers=LAYERS, seed=0):
    """With every weight away from its start, where biases are zero."""
    torch.manual_seed(seed)
    model = GPT(ENTRIES, TOKENS, layers, WIDTH, HEADS) if architecture == "gpt" else LSTM(ENTRIES, layers, WIDTH)
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def transformers_gpt2(monkeypatch):
    """transformers' GPT-2 around a copy of a small GPT's weights, as the benchmark of training has it."""
    monkeypatch.syspath_prepend(project_root() / "benchmarks")
    return import_module("regression_training").Transformers


@pytest.mark.parametrize("n_tokens", [1, 4, TOKENS])
def test_the_gpt_is_transformers_gpt2_at_the_same_weights(n_tokens, transformers_gpt2):
    ours, tokens = model_of("gpt"), drawn(6, n_tokens, ENTRIES)
    theirs = transformers_gpt2(ours, "gelu")
    torch.testing.assert_close(ours(tokens), theirs(tokens), **EXACT)
    for model in (ours, theirs):
        model(tokens).square().sum().backward()
    torch.testing.assert_close(ours.read_in.weight.grad, theirs.read_in.weight.grad, **EXACT)
    torch.testing.assert_close(ours.positions.grad, theirs.body.wpe.weight.grad, **EXACT)
    qkv = theirs.body.h[1].attn.c_attn.weight.grad.T
    torch.testing.assert_close(ours.blocks[1].attention.queries_keys_values.weight.grad, qkv, **EXACT)


def test_the_approximate_gelu_is_another_function(transformers_gpt2):
    """So the comparison can fail, and the benchmark's rival as it comes is a rival of equal size alone."""
    ours, tokens = model_of("gpt"), drawn(6, TOKENS, ENTRIES)
    assert 1e-6 < (ours(tokens) - transformers_gpt2(ours, "gelu_new")(tokens)).abs().max() < 1e-2


def test_no_weight_of_the_gpt_is_left_out_of_the_copy(transformers_gpt2):
    ours = model_of("gpt")
    theirs = transformers_gpt2(ours, "gelu")
    trained = [parameter.numel() for parameter in theirs.parameters() if parameter.requires_grad]
    assert sum(trained) == sum(parameter.numel() for parameter in ours.parameters())


def test_the_lstm_is_torchs_stacked_one_at_the_same_weights():
    ours, tokens = model_of("lstm"), drawn(6, TOKENS, ENTRIES)
    theirs = torch.nn.LSTM(ENTRIES, WIDTH, LAYERS, batch_first=True).double()
    stacked = {
        name.replace("_l0", f"_l{layer}"): weight
        for layer, module in enumerate(ours.layers)
        for name, weight in module.state_dict().items()
    }
    theirs.load_state_dict(stacked)
    torch.testing.assert_close(ours(tokens), ours.read_out(theirs(tokens)[0])[..., 0], **EXACT)


@both_models
def test_a_token_is_seen_by_itself_and_by_what_follows_alone(architecture):
    model, tokens = model_of(architecture), drawn(4, TOKENS, ENTRIES)
    before = model(tokens)
    for t in range(TOKENS):
        changed = tokens.clone()
        changed[:, t] += 1
        moved = (model(changed) - before).abs()
        assert moved[:, :t].sum() < EXACT["atol"]
        assert moved[:, t:].max(0).values.min() > 1e-6


@both_models
def test_the_rest_of_the_model_goes_on_from_the_states_after_any_layer(architecture):
    model, tokens = model_of(architecture), drawn(4, TOKENS, ENTRIES)
    states, expected = model.states(tokens), model(tokens)
    assert expected.shape == (4, TOKENS)
    assert states.shape == (4, TOKENS, LAYERS, WIDTH)
    torch.testing.assert_close(model.finish(model.embed(tokens)), expected, **EXACT)
    for layer in range(1, LAYERS + 1):
        torch.testing.assert_close(model.finish(states[:, :, layer - 1], after=layer), expected, **EXACT)
        moved = model.finish(states[:, :, layer - 1] + drawn(WIDTH), after=layer)
        assert (moved - expected).abs().min() > 1e-6


@both_models
def test_the_states_after_a_layer_are_those_of_a_model_that_ends_there(architecture):
    whole, tokens = model_of(architecture), drawn(4, TOKENS, ENTRIES)
    for layers in range(1, LAYERS):
        part = model_of(architecture, layers=layers)
        part.load_state_dict(whole.state_dict(), strict=False)
        torch.testing.assert_close(part.states(tokens), whole.states(tokens)[:, :, :layers], **EXACT)


def test_heads_that_are_all_kept_change_nothing():
    model, tokens = model_of("gpt"), drawn(4, TOKENS, ENTRIES)
    ones = torch.ones(LAYERS, HEADS, dtype=torch.float64)
    torch.testing.assert_close(model(tokens, keep_heads=ones), model(tokens), **EXACT)


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("head", range(HEADS))
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_head_that_is_kept_in_part_is_one_whose_output_weights_shrink(layer, head, share):
    model, tokens = model_of("gpt"), drawn(4, TOKENS, ENTRIES)
    keep = torch.ones(LAYERS, HEADS, dtype=torch.float64)
    keep[layer, head] = share
    found, untouched = model(tokens, keep_heads=keep), model(tokens)
    continued = model.finish(model.states(tokens)[:, :, 0], after=1, keep_heads=keep)
    mine = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
    with torch.no_grad():
        model.blocks[layer].attention.output.weight[:, mine] *= share
    torch.testing.assert_close(found, model(tokens), **EXACT)
    torch.testing.assert_close(continued, found if layer else untouched, **EXACT)
    assert (found - untouched).abs().max() > 1e-6


def test_first_weights_have_the_spread_that_is_said():
    torch.manual_seed(0)
    model = GPT(ENTRIES, TOKENS, n_layers=8, width=64, n_heads=4)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name
        else:
            writes = "attention.output" in name or "network_out" in name
            expected = 1 / math.sqrt(64) / (math.sqrt(2 * 8) if writes else 1)
            error = expected / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(expected, abs=4 * error), name


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 7, 5), (2, 3, 21, 16), (1, 4, 41, 3), (5, 1, 2, 1)])
def test_attention_is_torchs_fused_one_in_values_and_gradients(shape):
    B, H, T, width = shape
    # As the model gives them: three views of one tensor.
    parts = drawn(B, T, 3, H, width, seed=2).permute(2, 0, 3, 1, 4).requires_grad_()  # [3, B, H, T, d / H]
    found, expected = causal_attention(*parts), scaled_dot_product_attention(*parts, is_causal=True)
    torch.testing.assert_close(found, expected, **EXACT)
    toward = drawn(*shape, seed=3)
    gradients = [torch.autograd.grad(values, parts, toward)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, **EXACT)
