"""The single layout, x and y in one token: its risk depends on the spectrum of the inputs' covariance alone.

Without D, every layer multiplies the demonstrations' x by I + a c S and their y by b c S on the right, where S is a
polynomial in the covariance Sigma = X^T X / n; all of these commute. With r_0 = s_0 = 1 and an eigenvalue l of Sigma:

    r_{k+1} = r_k (1 + beta_k s_k^2 l),    s_{k+1} = s_k (1 + alpha_k s_k^2 l),    beta_k = b_k c_k, alpha_k = a_k c_k,

the residual is r_L(Sigma) x_query, and the risk E tr r_L(Sigma)^2: 2 L - 1 numbers to choose, and no query to sample.
"""

import torch
from torch import Tensor

from task_vectors.linear_attention.heavy_tails import stretched_inputs

START_BELOW_ZERO = 0.7  # of the unit interval from which a scale starts: most minima have most of them negative


def sample_spectra(n_prompts: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues of X^T X / n for n inputs, [B, d], and what each prompt weighs, [B], in float64."""
    X, importance = stretched_inputs(n_prompts, n, torch.Generator().manual_seed(seed), torch.float64)
    return torch.linalg.eigvalsh(X.mT @ X / n), importance


def spectral_residual(scales: Tensor, spectra: Tensor) -> Tensor:
    """r_L at each eigenvalue. scales [S, 2 L - 1]: beta of every layer, then alpha of all but the last."""
    L = (scales.shape[1] + 1) // 2
    beta, alpha = scales[:, :L, None, None], scales[:, L:, None, None]
    r = s = torch.ones_like(spectra)[None]  # [1, B, d]
    for layer in range(L):
        r = r * (1 + beta[:, layer] * s.square() * spectra)  # [S, B, d]
        if layer < L - 1:
            s = s * (1 + alpha[:, layer] * s.square() * spectra)
    return r


def spectral_risk(scales: Tensor, spectra: Tensor, importance: Tensor) -> Tensor:
    """Risk per output coordinate of each model: [S]."""
    return (spectral_residual(scales, spectra).square().sum(-1) * importance).mean(-1)


def minimize_single(n_layers: int, n: int, seeds: list[int], n_prompts: int = 50_000) -> Tensor:
    """Scales [S, 2 L - 1] at the minimum that each seed's start leads to, by L-BFGS on one large sample."""
    sample = sample_spectra(n_prompts, n, seed=0)
    found = []
    for seed in seeds:
        uniform = torch.rand(1, 2 * n_layers - 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found.append(_minimize(uniform - START_BELOW_ZERO, *sample))
    return torch.cat(found)


def _minimize(start: Tensor, spectra: Tensor, importance: Tensor) -> Tensor:
    scales = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([scales], max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = spectral_risk(scales, spectra, importance).log().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return scales.detach()
