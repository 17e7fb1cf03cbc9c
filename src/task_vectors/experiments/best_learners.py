"""What is recorded of the learners that need no training: their errors on the sequences that models are tested on."""

import pandas as pd

from task_vectors.experiments.emergence import PER_CLASS, TEST_SEED, TUNE_SEED
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.predictors import all_predictions, bayes, ridge
from task_vectors.regression.readings import balanced


def run(*, task: dict, n_demos: int) -> dict[str, pd.DataFrame]:
    """Table "errors" (learner, demos, error): mean square error after each number of demonstrations, over all classes.

    `task` are the fields of a SparseMixture. Nearly all of the time is LASSO's.
    """
    mixture = SparseMixture(**task)
    test, held_out = (balanced(mixture, n, n_demos + 1, seed) for n, seed in ((PER_CLASS, TEST_SEED), (25, TUNE_SEED)))
    rows = [
        {"learner": learner, "demos": i, "error": error}
        for learner, predictions in all_predictions(mixture, test, held_out).items()
        for i, error in enumerate((predictions - test.y).square().mean(0).tolist())
    ]
    return {"errors": pd.DataFrame(rows)}


def verify(record: Record) -> list[Comparison]:
    """All errors of ridge regression and of the Bayes predictor, averaged."""
    mixture, table = SparseMixture(**record.parameters["task"]), record.table("errors")
    test = balanced(mixture, PER_CLASS, record.parameters["n_demos"] + 1, TEST_SEED)
    found = {"ridge": ridge(mixture, test), "Bayes": bayes(mixture, test).predictions}
    return [
        Comparison(
            f"error of {learner}",
            float(table[table.learner == learner].error.mean()),
            (predictions - test.y).square().mean().item(),
            1e-4,
        )
        for learner, predictions in found.items()
    ]


BEST_LEARNERS = Experiment("best_learners", 1, run, verify)
