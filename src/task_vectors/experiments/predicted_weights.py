"""The weights of demonstrations in arrows that make the answer's second moment least: Propositions 3 and 5, predicted.

Nothing is trained here: a few numbers are minimized over, from many starts.
"""

import torch

from task_vectors.linear_attention.dropout import predicted_weights, second_moment
from task_vectors.records.store import Comparison, Experiment, Record

DIMENSION = 4  # of the inputs
TOLERANCE = 1e-3


def run(*, n: int, keeps: list[float], causal: bool) -> dict[str, object]:
    """For n demonstrations and tokens kept with each of these probabilities.

    Tensors: "weights", by probability ("0.2") the predicted weights [n, n + 1] in float64.
    """
    found = {f"{keep:g}": torch.from_numpy(predicted_weights(n, keep, DIMENSION, causal=causal)) for keep in keeps}
    return {"weights": found}


def verify(record: Record) -> list[Comparison]:
    """The least moment at the first probability, minimized again."""
    facts, keep = record.parameters, record.parameters["keeps"][0]
    again = predicted_weights(facts["n"], keep, DIMENSION, causal=facts["causal"])
    before = record.tensors("weights")[f"{keep:g}"].numpy()
    moments = [second_moment(weights, keep, DIMENSION) for weights in (before, again)]
    return [Comparison(f"least second moment at p = {keep:g}", *moments, TOLERANCE)]


PREDICTED = Experiment("predicted_weights", 1, run, verify)
