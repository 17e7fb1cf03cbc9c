import pytest
import torch

from task_vectors.kernels.linear_attention import linear_attention
from task_vectors.linear_attention.model import all_states, initial_weights, residuals, risk
from task_vectors.linear_attention.prompts import LAYOUTS, get_layout, prompt_states, sample_inputs, sample_tasks
from task_vectors.linear_attention.spectrum import minimize_single, sample_spectra, spectral_residual, spectral_risk
from task_vectors.linear_attention.training import Recipe, evaluate, train

EXACT = 1e-10  # float64, a few hundred operations
D = 4
EQUAL = torch.tensor(1.0)  # what every prompt of a plain sample weighs


def drawn(n_prompts, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    X = sample_inputs(n_prompts, n, D, generator, torch.float64)
    return X, sample_tasks(n_prompts, D, generator, torch.float64)


@pytest.mark.parametrize("layout", ["pairs", "triplets"])
@pytest.mark.parametrize("n_layers", [2, 3, 4])
@pytest.mark.parametrize("n", [1, 5])
def test_the_residual_is_what_the_literal_layers_answer(layout, n_layers, n):
    weights = initial_weights(get_layout(layout), n_layers, n, [0, 1], std=0.4, dtype=torch.float64)
    X, W = drawn(6, n)
    answers = -all_states(weights, prompt_states(X, W, weights.layout))[-1][:, :, -1, D:]  # [S, B, d]
    expected = (W @ X[:, -1, :, None])[..., 0] - answers
    torch.testing.assert_close((W @ residuals(weights, X)[..., None])[..., 0], expected, atol=EXACT, rtol=EXACT)


def test_the_task_is_integrated_out():
    weights = initial_weights(get_layout("triplets"), 3, 3, [0], std=0.5, dtype=torch.float64)
    X, _ = drawn(1, 3)
    generator = torch.Generator().manual_seed(1)
    tasks = sample_tasks(20_000, D, generator, torch.float64)
    losses = (tasks @ residuals(weights, X)[0, 0]).square().mean(-1)
    error = (losses.std() / len(losses) ** 0.5).item()
    assert losses.mean() == pytest.approx(risk(weights, X, EQUAL).item(), abs=4 * error)


def test_signs_on_a_position_matrix_only_flip_the_data():
    """Random signs that all layers share change no expectation: the inputs are as likely with either sign."""
    n, layout = 4, get_layout("triplets")
    weights = initial_weights(layout, 2, n, [0], std=0.5, dtype=torch.float64)
    X, W = drawn(5, n)
    flips = torch.randn(5, n + 1, generator=torch.Generator().manual_seed(2)).sign().double()
    signs = torch.ones(1, 5, layout.n_tokens(n), dtype=torch.float64)
    signs[:, :, layout.inputs(n)] = signs[:, :, layout.answers(n)] = flips

    def layer(X, signs=None):
        Z = prompt_states(X, W, layout)[None]
        return linear_attention(Z, *weights.scales[:, 0].unbind(-1), weights.D[:, 0], n=n, signs=signs)

    torch.testing.assert_close(layer(X, signs), signs[..., None] * layer(X * flips[..., None]), atol=EXACT, rtol=0)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_the_single_layout_is_a_polynomial_in_the_covariance(n_layers):
    n, generator = 6, torch.Generator().manual_seed(3)
    a, b, c = (0.4 * torch.randn(n_layers, 1, generator=generator, dtype=torch.float64) for _ in range(3))
    X, W = drawn(5, n)
    Z = prompt_states(X, W, LAYOUTS["single"])[None]
    for layer in range(n_layers):
        Z = linear_attention(Z, a[layer], b[layer], c[layer], None, n=n)
    residual = Z[0, :, -1, D:] + (W @ X[:, -1, :, None])[..., 0]
    scales = torch.cat([b * c, (a * c)[:-1]]).T  # [1, 2 L - 1]
    spectra, basis = torch.linalg.eigh(X[:, :n].mT @ X[:, :n] / n)
    polynomial = basis @ torch.diag_embed(spectral_residual(scales, spectra)[0]) @ basis.mT  # [B, d, d]
    torch.testing.assert_close(residual, (W @ polynomial @ X[:, -1, :, None])[..., 0], atol=EXACT, rtol=0)


@pytest.mark.parametrize("n", [5, 30])
def test_one_layer_reaches_the_known_optimum(n):
    """E ||(I - eta Sigma) x||^2 is least at eta = n / (n + d + 1), where it is d (d + 1) / (n + d + 1)."""
    scales = minimize_single(1, n, [0, 1], n_prompts=20_000)
    fresh = spectral_risk(scales, *sample_spectra(100_000, n, seed=5))
    assert fresh.tolist() == pytest.approx([D * (D + 1) / (n + D + 1)] * 2, rel=0.01)
    assert scales[:, 0].tolist() == pytest.approx([-n / (n + D + 1)] * 2, rel=0.02)


def test_models_of_an_ensemble_do_not_touch_each_other():
    together, _ = train("triplets", 3, 3, [4, 5], Recipe(steps=8, batch=50))
    alone, _ = train("triplets", 3, 3, [5], Recipe(steps=8, batch=50))
    for name, tensor in together.tensors().items():
        torch.testing.assert_close(tensor[1:], alone.tensors()[name], atol=1e-5, rtol=1e-4)


def test_a_model_that_is_not_finite_stays_and_harms_no_other(monkeypatch):
    from task_vectors.linear_attention import training

    start = training.initial_weights

    def broken(*args):
        weights = start(*args)
        weights.scales[0] = torch.nan
        return weights

    monkeypatch.setattr(training, "initial_weights", broken)
    weights, history = train("pairs", 2, 3, [0, 1], Recipe(steps=5, batch=20))
    assert weights.D[1].isfinite().all()
    assert history.groupby("seed")["risk"].apply(lambda risks: risks.notna().all()).tolist() == [False, True]


def test_stopping_early_is_the_beginning_of_the_same_run():
    _, whole = train("pairs", 2, 3, [0], Recipe(steps=40, batch=20))
    _, part = train("pairs", 2, 3, [0], Recipe(steps=40, batch=20), stop=9)
    assert part["risk"].tolist() == whole["risk"].tolist()[: len(part)]


def test_float32_is_enough():
    weights = initial_weights(get_layout("triplets"), 3, 10, [0])
    exact = weights.map(torch.Tensor.double)
    X, _ = drawn(200, 10)
    torch.testing.assert_close(risk(weights, X.float(), EQUAL).double(), risk(exact, X, EQUAL), rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pairs", "triplets"])
def test_two_layers_beat_the_best_single_layer(layout):
    """Theorem 1: the first layer joins x and y, the second does what one layer of the single layout does, or better."""
    weights, _ = train(layout, 2, 5, [0], Recipe(steps=600, batch=500))
    risks, errors = evaluate(weights, 40_000, seed=6)
    assert risks.item() < D * (D + 1) / (5 + D + 1) - 5 * errors.item()
