"""Two heads over two streams: what they are where the second head and stream are silent, and that training works."""

import pytest
import torch

from task_vectors.linear_attention.heads import (
    HEADS,
    LAYOUT,
    STREAMS,
    HeadWeights,
    head_risk,
    initial_heads,
    train_heads,
)
from task_vectors.linear_attention.model import initial_weights, residuals, risk
from task_vectors.linear_attention.prompts import get_layout, sample_inputs
from task_vectors.linear_attention.training import Recipe

N = 3


def embedded(weights, head=0):
    """The same models as `weights`, as one head on the first stream; the other head and stream are silent."""
    S, L, _ = weights.scales.shape
    T = LAYOUT.n_tokens(N)
    scales = {name: torch.zeros(S, L, HEADS, STREAMS, STREAMS) for name in "abc"}
    for i, name in enumerate("abc"):
        scales[name][:, :, head, 0, 0] = weights.scales[:, :, i]
    D, row = torch.zeros(S, L - 1, HEADS, T, T), torch.zeros(S, HEADS, T)
    D[:, :, head], row[:, head] = weights.D, weights.query_row
    return HeadWeights(**scales, D=D, query_row=row)


def drawn(n_layers, std=0.5):
    X = sample_inputs(40, N, 4, torch.Generator().manual_seed(1))
    return initial_weights(LAYOUT, n_layers, N, [0, 1], std), X, torch.ones(len(X))


@pytest.mark.parametrize("n_layers", [2, 3])
@pytest.mark.parametrize("head", range(HEADS))
def test_one_head_on_one_stream_is_the_plain_model(n_layers, head):
    weights, X, importance = drawn(n_layers)
    torch.testing.assert_close(head_risk(embedded(weights, head), X, importance), risk(weights, X, importance))


def test_a_layer_is_the_formula_written_out():
    """Three layers, of which the second reads and writes both streams, token by token and head by head."""
    weights = initial_heads(3, N, [0], std=0.3)
    X = sample_inputs(5, N, 4, torch.Generator().manual_seed(1))
    T, d = LAYOUT.n_tokens(N), 4
    squared = []
    for x in X:
        Z = torch.zeros(2, STREAMS, T, d)  # half, stream
        Z[0, 0, LAYOUT.inputs(N)] = x
        Z[1, 0, LAYOUT.answers(N)[:N]] = x[:N]
        for layer in range(3):
            added = torch.zeros_like(Z)
            for h in range(HEADS):
                c = weights.c[0, layer, h]
                D = torch.zeros(T, T)
                if layer < 2:
                    D = weights.D[0, layer, h]
                else:
                    D[-1] = weights.query_row[0, h]
                scores = D + sum(c[u, v] * Z[0, u] @ Z[0, v].T for u in range(STREAMS) for v in range(STREAMS))
                scores = scores.clone()
                scores[:, -1] = 0
                for half, factors in enumerate((weights.a[0, layer, h], weights.b[0, layer, h])):
                    for u in range(STREAMS):
                        added[half, u] += sum(factors[u, v] * scores @ Z[half, v] for v in range(STREAMS)) / N
            Z = Z + added
        squared.append((Z[1, 0, -1] + x[-1]).square().sum())
    found = head_risk(weights, X, torch.ones(len(X)))
    torch.testing.assert_close(found, torch.stack(squared).mean()[None])


def test_training_lowers_the_risk_and_no_seed_depends_on_its_company():
    recipe = Recipe(steps=40, batch=50)
    weights, history = train_heads(2, N, [0, 1], recipe)
    X = sample_inputs(500, N, 4, torch.Generator().manual_seed(1))
    before = head_risk(initial_heads(2, N, [0, 1], recipe.initial_std), X, torch.ones(500))
    assert (head_risk(weights, X, torch.ones(500)) < before).all()
    assert history.seed.unique().tolist() == [0, 1]
    alone, _ = train_heads(2, N, [1], recipe)
    torch.testing.assert_close(alone.D[0], weights.D[1], rtol=1e-3, atol=1e-4)


def test_an_end_token_is_a_second_arrow_that_may_stay_unused():
    """The layout with an end token can do what triplets do: D on the other three tokens, nothing else."""
    weights, X, importance = drawn(3)
    ended = get_layout("ended")
    kept = torch.arange(ended.n_tokens(N)).view(-1, 4)[:, [0, 1, 3]].flatten()
    wide = initial_weights(ended, 3, N, [0, 1], std=0.0)
    wide.scales.copy_(weights.scales)
    wide.D[:, :, kept[:, None], kept] = weights.D
    wide.query_row[:, kept] = weights.query_row
    torch.testing.assert_close(residuals(wide, X), residuals(weights, X), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(risk(wide, X, importance), risk(weights, X, importance), rtol=1e-4, atol=1e-4)
