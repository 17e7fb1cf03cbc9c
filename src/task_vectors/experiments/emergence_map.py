"""What is recorded for a picture of the states coming apart: their t-SNE, snapshot by snapshot."""

import torch
from sklearn.manifold import TSNE
from torch import Tensor

from task_vectors.experiments.emergence import EMERGENCE
from task_vectors.measures.decodability import task_decodability
from task_vectors.records.store import Comparison, Experiment, Record, recorded

PERPLEXITY = 30  # a quarter of the states, where they are few


def run(*, model: dict, layer: int) -> dict[str, dict[str, Tensor]]:
    """Tensors "map", by step: where each state lies in two dimensions, of mean 0 and variance 1, [N, 2] in float16.

    model: the parameters of a record of `emergence` with pictures, whose principal components after `layer` are laid
    out, from the first two on.
    """
    return {"map": {step: flat(states[:, layer - 1]) for step, states in _states(model).items()}}


def flat(states: Tensor) -> Tensor:
    """States [N, C] by t-SNE in two dimensions, of mean 0 and variance 1: [N, 2] in float16."""
    layout = TSNE(perplexity=min(PERPLEXITY, len(states) / 4), init="pca", random_state=0)
    points = torch.from_numpy(layout.fit_transform(states.float().numpy()))
    return ((points - points.mean(0)) / points.std(0, unbiased=False)).half()


def verify(record: Record) -> list[Comparison]:
    """How well neighbors on the last snapshot's map tell the class: places on a map differ from machine to machine."""
    step, states = max(_states(record.parameters["model"]).items())
    n_classes = record.parameters["model"]["task"]["n_classes"]
    classes = torch.arange(n_classes).repeat_interleave(len(states) // n_classes)
    td = [
        task_decodability(points.float(), classes).mean().item()
        for points in (record.tensors("map")[step], flat(states[:, record.parameters["layer"] - 1]))
    ]
    return [Comparison(f"decodability on the map of step {int(step)}", *td, 0.05)]


def _states(model: dict) -> dict[str, Tensor]:
    return recorded(EMERGENCE, **model).tensors("states")


EMERGENCE_MAP = Experiment("emergence_map", 1, run, verify)
