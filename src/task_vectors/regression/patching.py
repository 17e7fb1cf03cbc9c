"""Does the model use what its states tell of the class? States at the query are patched with those of other classes.

whole: the query token's state becomes the mean state of the target class, as in Han et al. 2025 (section 3.4). The mean
has no query, so that where later layers still need it the error rises whatever the class.
part: only what lies in the span of the differences between class means is replaced, and the rest stays.
"""

import torch
from torch import Tensor, nn

from task_vectors.regression.mixtures import Sequences
from task_vectors.regression.readings import by_class
from task_vectors.regression.tokens import tokens

KINDS = ("whole", "part")


def patch_table(
    model: nn.Module, layout: str, donors: Sequences, sequences: Sequences, layer: int
) -> dict[str, Tensor]:
    """Squared error at the last query with the state after `layer` layers patched, less the error without: by kind.

    Class means are those of `donors`; each table is [B, K], one column for each class whose mean is put in.
    """
    means = by_class(_states(model, layout, donors, layer)[:, -1], donors.classes)  # [K, d]
    states = _states(model, layout, sequences, layer)  # [B, T, d]
    truth = sequences.y[:, -1]

    def error(query: Tensor) -> Tensor:
        patched = torch.cat([states[:, :-1], query[:, None]], 1)
        return (model.finish(patched, layer)[:, -1] - truth).square()

    before = error(states[:, -1])
    basis = class_span(means)  # [K - 1, d]
    tables = {kind: torch.empty(len(truth), len(means)) for kind in KINDS}
    for target, mean in enumerate(means):
        away = mean - states[:, -1]  # [B, d]
        tables["whole"][:, target] = error(states[:, -1] + away) - before
        tables["part"][:, target] = error(states[:, -1] + away @ basis.T @ basis) - before
    return tables


@torch.no_grad()
def swapped(model: nn.Module, layout: str, donors: Sequences, sequences: Sequences, positions: list[int]) -> Tensor:
    """Change of each class's error at the last query with the part of another class put in at these tokens at once.

    After each layer, each token's part is set to the donors' mean at its own position: [L, K, K], at
    [layer, class of the sequence, class put in]. With the last token alone it is patch_table's "part".
    """
    donor_states, states = (model.states(tokens(layout, s.x, s.y)) for s in (donors, sequences))  # [B, T, L, d]
    truth, found = sequences.y[:, -1], []
    for layer in range(states.shape[2]):
        means = torch.stack(
            [by_class(donor_states[:, t, layer], donors.classes) for t in positions]
        )  # [positions, K, d]
        spans = torch.stack([class_span(mean) for mean in means])  # [positions, K - 1, d]
        own = states[:, :, layer]  # [B, T, d]
        before = (model.finish(own, layer + 1)[:, -1] - truth).square()
        changes = []
        for target in means.unbind(1):
            patched, away = own.clone(), target - own[:, positions]  # [B, positions, d]
            patched[:, positions] += torch.einsum("bpd,pkd,pke->bpe", away, spans, spans)
            changes.append((model.finish(patched, layer + 1)[:, -1] - truth).square() - before)
        found.append(by_class(torch.stack(changes, 1), sequences.classes))  # [K, K]
    return torch.stack(found)


def class_span(means: Tensor) -> Tensor:
    """Orthonormal rows that span the differences between the class means [K, d]: [K - 1, d]."""
    return torch.linalg.svd(means - means.mean(0), full_matrices=False).Vh[:-1]


def _states(model: nn.Module, layout: str, sequences: Sequences, layer: int) -> Tensor:
    return model.states(tokens(layout, sequences.x, sequences.y))[:, :, layer - 1]  # [B, T, d]
