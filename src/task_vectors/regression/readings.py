"""What is read from a model: the states that may tell the class.

A state at the class token holds the last demonstration, and with pair tokens the query too, both of which differ from
sequence to sequence at full size: neighbors are then near in the *inputs*. The mean reading averages a sequence's state
over orders of its demonstrations and over queries, so that what is left is what the sequence's states have in common.
"""

import torch
from torch import Tensor, nn

from task_vectors.regression.mixtures import Mixture, Sequences
from task_vectors.regression.tokens import class_token, tokens

READINGS = ("token", "mean")


def balanced(mixture: Mixture, per_class: int, n: int, seed: int) -> Sequences:
    """Equally many sequences of every class, class by class."""
    classes = torch.arange(mixture.n_classes).repeat_interleave(per_class)
    return mixture.sample(len(classes), n, torch.Generator().manual_seed(seed), classes)


def shortened(sequences: Sequences, demos: int) -> Sequences:
    """The first demonstrations of each sequence, and one more input for a query."""
    return Sequences(sequences.x[:, : demos + 1], sequences.y[:, : demos + 1], sequences.classes)


def by_class(values: Tensor, classes: Tensor) -> Tensor:
    """The mean of values [B, n] over each class: [K, n]."""
    return torch.stack([values[classes == z].mean(0) for z in range(int(classes.max()) + 1)])


def class_states(model: nn.Module, layout: str, sequences: Sequences, redraws: int = 0, seed: int = 0) -> Tensor:
    """The states after each layer at the class token: [B, L, d].

    With redraws, the mean over so many random orders of the demonstrations, each with a query of its own.
    """
    if not redraws:
        inputs = tokens(layout, sequences.x, sequences.y)
        return model.states(inputs)[:, class_token(layout, inputs.shape[1])]
    generator = torch.Generator().manual_seed(seed)
    total = 0
    for _ in range(redraws):
        total = total + class_states(model, layout, reordered(sequences, generator))
    return total / redraws


def reordered(sequences: Sequences, generator: torch.Generator) -> Sequences:
    """The same demonstrations in another order, each sequence's its own, before a new query without an output."""
    x, y, classes = sequences
    B, n, D = x.shape
    order = torch.rand(B, n - 1, generator=generator).argsort(1)  # [B, n - 1]
    demos = x[:, :-1].gather(1, order[..., None].expand(-1, -1, D))
    query = torch.randn(B, 1, D, generator=generator)
    outputs = torch.cat([y[:, :-1].gather(1, order), torch.zeros(B, 1)], 1)
    return Sequences(torch.cat([demos, query], 1), outputs, classes)
