"""What one task vector is worth: a trained linear transformer that is shown nothing but the vector and a query.

Beside it stand the same model with all demonstrations, and one-shot learning by a model trained for just that.
"""

import pandas as pd

from task_vectors.experiments.linear_transformer import RISKS, best_weights
from task_vectors.linear_attention.heavy_tails import DIMENSION
from task_vectors.linear_attention.reduction import INPUTS, TASKS, Score, icl_score, sample_problem, task_vector_score
from task_vectors.records.store import Comparison, Experiment, Record, recorded

SEED_OF_ONE = 1  # draws the prompts of one demonstration; those of n are drawn by n


def run(*, trained: dict, one_shot: dict, n_prompts: int) -> dict[str, object]:
    """`trained`, `one_shot`: parameters of two records of linear_transformer, the second trained at n = 1.

    Tables: "scores" (inputs, task, method, angle, risk: see Score) over n_prompts fresh prompts of each problem, for
    the best seeds of both records. Methods: "task vector", "all demonstrations", "one demonstration".
    """
    rows = [
        {"inputs": inputs, "task": task, "method": method, "angle": score.angle.item(), "risk": score.risk.item()}
        for inputs in INPUTS
        for task in TASKS
        for method, score in _scores(trained, one_shot, n_prompts, inputs, task).items()
    ]
    return {"scores": pd.DataFrame(rows)}


def verify(record: Record) -> list[Comparison]:
    """All scores of the first problem. The risk too: one demonstration's answer has the same direction whatever the
    weights, but for its sign."""
    table = record.table("scores").query("inputs == @INPUTS[0] and task == @TASKS[0]").set_index("method")
    again = _scores(**record.parameters, inputs=INPUTS[0], task=TASKS[0])
    return [
        Comparison(f"{name}, {method}", table.loc[method, column], getattr(score, column).item(), 1e-3)
        for method, score in again.items()
        for column, name in (("angle", "direction error"), ("risk", "risk at the best scale"))
    ]


def _scores(trained: dict, one_shot: dict, n_prompts: int, inputs: str, task: str) -> dict[str, Score]:
    model, rival = (best_weights(recorded(RISKS, **parameters)) for parameters in (trained, one_shot))
    problem = sample_problem(n_prompts, trained["n"], DIMENSION, inputs, task, seed=trained["n"])
    given = sample_problem(n_prompts, 1, DIMENSION, inputs, task, seed=SEED_OF_ONE)
    return {
        "task vector": task_vector_score(model, *problem),
        "all demonstrations": icl_score(model, *problem),
        "one demonstration": icl_score(rival, *given),
    }


WORTH = Experiment("task_vector_worth", 1, run, verify)
