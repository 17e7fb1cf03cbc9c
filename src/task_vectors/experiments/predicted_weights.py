"""The weights of demonstrations in arrows that make the answer's second moment least: Propositions 3 and 5, predicted.

Nothing is trained here: a few numbers are minimized over, from many starts.
"""

import torch

from task_vectors.linear_attention.dropout import OBJECTIVES, predicted_weights
from task_vectors.records.store import Comparison, Experiment, Record

DIMENSION = 4  # of the inputs, as in the paper's training
TOLERANCE = 1e-3


def run(
    *, n: int, keeps: list[float], causal: bool, d: int = DIMENSION, objective: str = "derived"
) -> dict[str, object]:
    """For n demonstrations and tokens kept with each of these probabilities; `objective` is one of OBJECTIVES.

    Tensors: "weights", by probability ("0.2") the predicted weights [n, n + 1] in float64.
    """
    how = {"objective": objective, "causal": causal}
    return {"weights": {f"{keep:g}": torch.from_numpy(predicted_weights(n, keep, d, **how)) for keep in keeps}}


def verify(record: Record) -> list[Comparison]:
    """The least moment at the first probability, minimized again."""
    facts, keep = record.parameters, record.parameters["keeps"][0]
    d, objective = facts.get("d", DIMENSION), facts.get("objective", "derived")
    again = predicted_weights(facts["n"], keep, d, objective=objective, causal=facts["causal"])
    before = record.tensors("weights")[f"{keep:g}"].numpy()
    moments = [OBJECTIVES[objective](weights, keep, d) for weights in (before, again)]
    return [Comparison(f"least second moment at p = {keep:g}", *moments, TOLERANCE)]


PREDICTED = Experiment("predicted_weights", 1, run, verify)
