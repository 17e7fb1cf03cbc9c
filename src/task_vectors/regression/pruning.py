"""Which heads serve which class: the error of each class with one head at a time taken out."""

import torch
from torch import Tensor

from task_vectors.regression.gpt import GPT
from task_vectors.regression.mixtures import Sequences
from task_vectors.regression.readings import by_class
from task_vectors.regression.tokens import at_queries, tokens


@torch.no_grad()
def pruned_errors(model: GPT, layout: str, sequences: Sequences) -> Tensor:
    """Squared error at the last query of each class, less the error of the whole model, with head h of layer l zeroed.

    Han et al. 2025, section 3.5. The result is [L, H, K].
    """
    n_layers, n_heads = len(model.blocks), model.blocks[0].attention.n_heads
    inputs, truth = tokens(layout, sequences.x, sequences.y), sequences.y[:, -1]

    def errors(states: Tensor, after: int, keep_heads: Tensor | None = None) -> Tensor:
        predictions = at_queries(layout, model.finish(states, after, keep_heads))[:, -1]
        return by_class((predictions - truth).square(), sequences.classes)  # [K]

    states = model.embed(inputs)  # [B, T, d], before each layer
    whole = errors(states, 0)
    found = torch.empty(n_layers, n_heads, len(whole))
    for layer in range(n_layers):
        for head in range(n_heads):
            keep_heads = torch.ones(n_layers, n_heads)
            keep_heads[layer, head] = 0
            found[layer, head] = errors(states, layer, keep_heads) - whole
        states = model.blocks[layer](states)
    return found


def damage(model: GPT, layout: str, sequences: Sequences) -> Tensor:
    """Change of each sequence's squared error with each head taken out: [L * H, K, n], n sequences a class.

    The sequences are equally many of each class, class by class.
    """
    numbered = sequences._replace(classes=torch.arange(len(sequences.y)))  # each sequence a class of its own
    changes = pruned_errors(model, layout, numbered).flatten(0, 1)  # [L * H, B]
    return changes.unflatten(1, (int(sequences.classes.max()) + 1, -1))


def concentration(changes: Tensor) -> Tensor:
    """Of each head's damage [heads, K, n], the share that falls on the class that it damages most: [heads].

    The largest of K noisy numbers is too large by itself: the class is found on one half of the sequences, its share
    measured on the other, and both ways averaged. nan for a head that does no damage on a half.
    """
    halves = [changes[..., i::2].mean(-1).clamp(min=0) for i in (0, 1)]  # each [heads, K]

    def share(chosen: Tensor, scored: Tensor) -> Tensor:
        return scored.gather(1, chosen.argmax(1, keepdim=True))[:, 0] / scored.sum(1)

    return (share(*halves) + share(*reversed(halves))) / 2
