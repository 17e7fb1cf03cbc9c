"""Inputs for risks with heavy tails: stretched on purpose, and weighted for it.

The squared residual of three layers is a polynomial of degree 54 in Gaussian inputs. Most of its mean can lie in
prompts that come once in 100 000, whose inputs, query included, are large along one direction: a plain sample does not
see them, and training on it finds weights that are far worse than they look. So a part of the prompts is stretched by s
along a direction u,

    q(X) = p(X) [share + (1 - share) mean_{s, u} s^-N exp((1 - 1/s^2) |X u|^2 / 2)],   X in R^{N x d},

and every prompt weighs p / q, which is at most 1 / share. Means of what does not change when all inputs are rotated are
then estimated without bias, and with a variance that the tail no longer makes (the balance heuristic of Veach and
Guibas 1995).
"""

import math

import numpy as np
import torch
from torch import Tensor

DIMENSION = 4  # for which the mean over directions is an integral over one variable
PLAIN_SHARE = 0.4  # of prompts that are not stretched
STRETCHES = (1.5, 3.0, 4.5)  # in standard deviations of the length of N standard normal numbers
NODES = 16  # of the quadrature: exact to float32 for every stretch


def stretched_inputs(
    n_prompts: int, rows: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """X [B, rows, 4] and the prompts' weights [B], of mean 1.

    A weight belongs to a stretch along a random direction. The direction here is the first axis: for means of what
    rotation does not change that is the same.
    """
    X = torch.randn(n_prompts, rows, DIMENSION, generator=generator, dtype=dtype)
    stretches = [1 + size / math.sqrt(2 * rows) for size in STRETCHES]
    shares = [PLAIN_SHARE, *[(1 - PLAIN_SHARE) / len(stretches)] * len(stretches)]
    chosen = torch.multinomial(torch.tensor(shares), n_prompts, replacement=True, generator=generator)
    X[..., 0] *= torch.tensor([1.0, *stretches], dtype=dtype)[chosen, None]
    spectra = torch.linalg.eigvalsh(X.mT @ X)  # [B, d]
    ratios = [
        (1 - PLAIN_SHARE) / len(stretches) * torch.exp(log_mean_exp(spectra / 2 * (1 - s**-2)) - rows * math.log(s))
        for s in stretches
    ]
    return X, 1 / (PLAIN_SHARE + sum(ratios))


def log_mean_exp(eigenvalues: Tensor) -> Tensor:
    """log of the mean of exp(u^T M u) over unit vectors u in R^4, for M with these eigenvalues [..., 4]: [...].

    |(u_1, u_2)|^2 is uniform on [0, 1] there, and over a circle the mean of exp(a cos^2 + b sin^2) is
    exp((a + b) / 2) I_0((a - b) / 2).
    """
    nodes, masses = np.polynomial.legendre.leggauss(NODES)
    t = torch.from_numpy((nodes + 1) / 2).to(eigenvalues)  # [nodes]
    log_masses = torch.from_numpy(np.log(masses / 2)).to(eigenvalues)
    (a, b), (c, e) = (pair[..., None].unbind(-2) for pair in eigenvalues.split(2, -1))  # each [..., 1]
    # i0e is I_0 without its growth exp(|x|), which is put back as a logarithm.
    parts = [(t, a, b), (1 - t, c, e)]
    logs = sum(
        share * (x + y) / 2 + (share * (x - y) / 2).abs() + torch.special.i0e(share * (x - y) / 2).log()
        for share, x, y in parts
    )
    return torch.logsumexp(logs + log_masses, -1)
