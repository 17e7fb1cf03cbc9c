import numpy as np
import pytest
import torch

from task_vectors.experiments import token_dropout
from task_vectors.experiments.token_dropout import TOKEN_DROPOUT, TRIPLETS
from task_vectors.linear_attention.dropout import predicted_weights, second_moment, visible
from task_vectors.records.store import recorded

SIZES = {"n_seeds": 2, "batch": 200}


def model(n: int, weights: torch.Tensor, scale: float) -> dict[str, torch.Tensor]:
    """One model whose arrows hold sums of demonstrations with weights [n, n + 1], and whose answer sees the query."""
    D = torch.zeros(TRIPLETS.n_tokens(n), TRIPLETS.n_tokens(n))
    for places in (TRIPLETS.inputs(n), TRIPLETS.answers(n)):
        D[TRIPLETS.arrows(n)[:, None], places[:n]] = n * weights.T
    D[-1, TRIPLETS.inputs(n)[-1]] = n
    return {"D": D[None], "scale": torch.tensor([n * scale]), "query_row": torch.zeros(1, len(D))}


def test_the_answer_is_the_one_of_the_propositions(monkeypatch):
    """-y_hat = - scale sum_ik K_ik (x_i . x_query) y_k with K = L L^T, so that the residual is x + scale X^T K X x."""
    n, scale = 3, -0.1
    weights = torch.randn(n, n + 1, generator=torch.Generator().manual_seed(0))
    drawn = []

    def keep_what_is_drawn(*args, **kwargs):
        drawn.append(arrows_inputs(*args, **kwargs))
        return drawn[-1]

    arrows_inputs = token_dropout.stretched_inputs
    monkeypatch.setattr(token_dropout, "stretched_inputs", keep_what_is_drawn)
    risk = token_dropout._risk(model(n, weights, scale), n, 1.0, False, 500, torch.Generator().manual_seed(1))
    X, importance = drawn[0]
    demos, query = X[:, :n], X[:, n:]  # [B, n, d], [B, 1, d]
    residuals = query + scale * query @ demos.mT @ (weights @ weights.T) @ demos
    expected = (residuals.square().sum((1, 2)) * importance).mean()
    torch.testing.assert_close(risk, expected[None], rtol=1e-4, atol=1e-5)


def test_where_nothing_is_kept_nothing_is_answered():
    risk = token_dropout._risk(model(3, torch.ones(3, 4), 1.0), 3, 0.0, False, 40_000, torch.Generator().manual_seed(1))
    assert risk.item() == pytest.approx(4, rel=0.03)


def test_causal_arrows_read_what_was_answered_before_them():
    record_weights = token_dropout.run(n=3, keep=0.9, causal=True, steps=120, **SIZES)["weights"]
    weights = record_weights.query("seed == 0").pivot(index="demo", columns="arrow", values="weight").to_numpy()
    assert np.linalg.norm(weights) == pytest.approx(1)
    assert np.abs(weights[~visible(3, causal=True)]).max() < 1e-5


def test_a_record_agrees_with_its_verification(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    record = recorded(TOKEN_DROPOUT, n=3, keep=0.8, causal=False, steps=20, **SIZES)
    assert all(item.agrees for item in TOKEN_DROPOUT.verify(record))
    test_risks = token_dropout._test_risks
    monkeypatch.setattr(token_dropout, "_test_risks", lambda *args: 1.1 * test_risks(*args))
    assert not any(item.agrees for item in TOKEN_DROPOUT.verify(record))


@pytest.mark.slow
def test_training_reaches_the_predicted_minimum():
    result = token_dropout.run(n=3, keep=0.8, causal=True, steps=600, **SIZES)
    weights = result["weights"].query("seed == 0").pivot(index="demo", columns="arrow", values="weight").to_numpy()
    least = second_moment(predicted_weights(3, 0.8, causal=True), 0.8, 4)
    assert second_moment(weights, 0.8, 4) < 1.1 * least
