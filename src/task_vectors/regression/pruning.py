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

    def errors(keep_heads: Tensor | None) -> Tensor:
        predictions = at_queries(layout, model(inputs, keep_heads))[:, -1]
        return by_class((predictions - truth).square(), sequences.classes)  # [K]

    whole = errors(None)
    found = torch.empty(n_layers, n_heads, len(whole))
    for layer in range(n_layers):
        for head in range(n_heads):
            keep_heads = torch.ones(n_layers, n_heads)
            keep_heads[layer, head] = 0
            found[layer, head] = errors(keep_heads) - whole
    return found
