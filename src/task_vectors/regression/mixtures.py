"""Mixtures of in-context regressions: each sequence draws a class z, a function of that class, and its demonstrations.

SparseMixture is the task of Han et al. 2025 (section 3): w lives on one of K supports. FamilyMixture draws from whole
families of functions. Outputs have variance 1 before noise, whatever the class.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

LEAK = 0.5  # slope of the leaky rectifier below zero
# Mean and standard deviation of leaky_relu(u) for normal u of variance 1.
LEAKY_MEAN = (1 - LEAK) / math.sqrt(2 * math.pi)
LEAKY_SD = math.sqrt((1 + LEAK**2) / 2 - LEAKY_MEAN**2)
FAMILIES = ("linear", "sparse", "leaky", "quadratic")


class Sequences(NamedTuple):
    """n inputs and outputs a sequence, and the class that made them."""

    x: Tensor  # [B, n, D]
    y: Tensor  # [B, n]
    classes: Tensor  # [B], int64


@dataclass(frozen=True)
class SparseMixture:
    """y = w·x / sqrt(rank) + noise, with w normal on one of `n_classes` supports of `rank` inputs and zero elsewhere.

    The supports are spread evenly over the inputs: without overlap where n_classes · rank = dim. With `groups`, each
    group of classes has its own dim / groups inputs and spreads its supports over those. `frequencies` are the classes'
    probabilities (None: all equal). Raises ValueError where the numbers do not fit.
    """

    dim: int = 16
    rank: int = 4
    n_classes: int = 4
    groups: int = 1
    noise: float = 0.1
    frequencies: tuple[float, ...] | None = None

    def __post_init__(self):
        sizes = f"dim = {self.dim}, rank = {self.rank}, n_classes = {self.n_classes}, groups = {self.groups}"
        if min(self.dim, self.rank, self.n_classes, self.groups) < 1 or self.dim % self.groups:
            raise ValueError(f"dim must be a multiple of groups, and all sizes at least 1; got {sizes}")
        if self.n_classes % self.groups or self.rank > self.dim // self.groups:
            raise ValueError(f"n_classes must be a multiple of groups, and rank at most dim / groups; got {sizes}")
        if len(self.supports.unique(dim=0)) < self.n_classes:
            raise ValueError(f"there must be room for supports that differ; got {sizes}")
        _check_noise(self.noise)
        _check_frequencies(self.frequencies, self.n_classes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"basis {k + 1}" for k in range(self.n_classes))

    @cached_property
    def supports(self) -> Tensor:
        """The inputs of each class, ascending: [K, rank]."""
        size, classes = self.dim // self.groups, self.n_classes // self.groups
        starts = torch.arange(classes) * size // classes
        within = (starts[:, None] + torch.arange(self.rank)) % size  # [K / groups, rank]
        return torch.cat([(within + group * size).sort(1).values for group in range(self.groups)])

    def sample(self, batch: int, n: int, generator: torch.Generator, classes: Tensor | None = None) -> Sequences:
        """Fresh sequences of n inputs and outputs; `classes` [batch] are drawn unless given."""
        classes = _draw(self.frequencies, self.n_classes, batch, generator) if classes is None else classes
        x = torch.randn(batch, n, self.dim, generator=generator)
        w = torch.randn(batch, self.rank, 1, generator=generator) / math.sqrt(self.rank)
        on_support = x.gather(2, self.supports[classes][:, None].expand(-1, n, -1))  # [B, n, rank]
        y = (on_support @ w)[..., 0] + self.noise * torch.randn(batch, n, generator=generator)
        return Sequences(x, y, classes)


@dataclass(frozen=True)
class FamilyMixture:
    """y = f(x) + noise with f drawn from one of four families, each of variance 1 over x.

    linear: w·x with all weights; sparse: w·x with `rank` weights at places of its own in every sequence; leaky: a leaky
    rectifier of w·x, centered; quadratic: w·(x² − 1), square by square.
    """

    dim: int = 16
    rank: int = 4
    families: tuple[str, ...] = FAMILIES
    noise: float = 0.1
    frequencies: tuple[float, ...] | None = None

    def __post_init__(self):
        if not self.families or set(self.families) - set(FAMILIES):
            raise ValueError(f"families must be some of {', '.join(FAMILIES)}; got {list(self.families)}")
        if not 1 <= self.rank <= self.dim:
            raise ValueError(f"rank must be from 1 to dim; got {self.rank} of {self.dim}")
        _check_noise(self.noise)
        _check_frequencies(self.frequencies, self.n_classes)

    @property
    def names(self) -> tuple[str, ...]:
        return self.families

    @property
    def n_classes(self) -> int:
        return len(self.families)

    def sample(self, batch: int, n: int, generator: torch.Generator, classes: Tensor | None = None) -> Sequences:
        """Fresh sequences of n inputs and outputs; `classes` [batch] are drawn unless given."""
        classes = _draw(self.frequencies, self.n_classes, batch, generator) if classes is None else classes
        x = torch.randn(batch, n, self.dim, generator=generator)
        w = torch.randn(batch, self.dim, generator=generator)
        places = torch.rand(batch, self.dim, generator=generator).argsort(1) < self.rank  # [B, D], rank True in each
        y = self.noise * torch.randn(batch, n, generator=generator)
        for index, family in enumerate(self.families):
            mine = classes == index
            y[mine] += _values(family, x[mine], w[mine], places[mine])
        return Sequences(x, y, classes)


def _values(family: str, x: Tensor, w: Tensor, places: Tensor) -> Tensor:
    """Outputs [B, n] without noise, for x [B, n, D], w [B, D] and, of the sparse family, places [B, D]."""
    if family == "quadratic":
        x = (x.square() - 1) / math.sqrt(2)
    if family == "sparse":
        w = w * places
    norms = math.sqrt(places[0].sum() if family == "sparse" and len(places) else x.shape[-1])
    y = (x @ w[..., None])[..., 0] / norms
    return rectified(y) if family == "leaky" else y


def rectified(u: Tensor) -> Tensor:
    """The leaky rectifier of normal u of variance 1, centered and of variance 1."""
    return (leaky_relu(u, LEAK) - LEAKY_MEAN) / LEAKY_SD


def _draw(frequencies: tuple[float, ...] | None, n_classes: int, batch: int, generator: torch.Generator) -> Tensor:
    weights = torch.tensor(frequencies or [1.0] * n_classes)
    return torch.multinomial(weights, batch, replacement=True, generator=generator)


def _check_noise(noise: float) -> None:
    if not noise > 0:
        raise ValueError(f"noise must be above 0, for predictions to have a variance; got {noise}")


def _check_frequencies(frequencies: tuple[float, ...] | None, n_classes: int) -> None:
    if frequencies is not None and (
        len(frequencies) != n_classes or min(frequencies) < 0 or not math.isclose(sum(frequencies), 1, abs_tol=1e-6)
    ):
        raise ValueError(f"frequencies must be {n_classes} probabilities that sum to 1; got {frequencies}")


Mixture = SparseMixture | FamilyMixture
