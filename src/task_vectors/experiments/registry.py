"""Every recorded experiment by the name of its records: a module that is renamed breaks no record."""

from importlib import import_module

from task_vectors.records.digest import source_digest
from task_vectors.records.ledger import verified_on
from task_vectors.records.store import Experiment, Record, RecordError

CHANGED = "code changed since"
EXPERIMENTS = {
    "band_tuning": "task_vectors.experiments.band_tuning:BAND_TUNING",
    "best_learners": "task_vectors.experiments.best_learners:BEST_LEARNERS",
    "bijections": "task_vectors.experiments.bijections:BOTH_WAYS",
    "block_tuning": "task_vectors.experiments.block_tuning:BLOCK_TUNING",
    "demonstrations": "task_vectors.experiments.demonstration_weights:WEIGHTS",
    "emergence": "task_vectors.experiments.emergence:EMERGENCE",
    "emergence_fresh": "task_vectors.experiments.emergence_readings:EMERGENCE_FRESH",
    "emergence_map": "task_vectors.experiments.emergence_map:EMERGENCE_MAP",
    "emergence_places": "task_vectors.experiments.emergence_readings:EMERGENCE_PLACES",
    "emergence_prefixes": "task_vectors.experiments.emergence_readings:EMERGENCE_PREFIXES",
    "end_token": "task_vectors.experiments.end_token:END_TOKEN",
    "first_look": "task_vectors.experiments.first_look:FIRST_LOOK",
    "injection_window": "task_vectors.experiments.injection_window:INJECTION_WINDOW",
    "intervention": "task_vectors.experiments.patched_means:INTERVENTION",
    "linear_transformer": "task_vectors.experiments.linear_transformer:RISKS",
    "predicted_weights": "task_vectors.experiments.predicted_weights:PREDICTED",
    "prediction": "task_vectors.experiments.td_of_families:PREDICTION",
    "pretraining": "task_vectors.experiments.pretraining:PRETRAINING",
    "task_vector_worth": "task_vectors.experiments.task_vector_worth:WORTH",
    "token_dropout": "task_vectors.experiments.token_dropout:TOKEN_DROPOUT",
    "tuned_state": "task_vectors.experiments.tuned_state:TUNED_STATE",
    "untrained": "task_vectors.experiments.band_tuning:UNTRAINED",
}


def get_experiment(name: str) -> Experiment:
    """The experiment of this name; RecordError for one that is not registered."""
    if name not in EXPERIMENTS:
        raise RecordError(f"there is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    module, _, constant = EXPERIMENTS[name].partition(":")
    return getattr(import_module(module), constant)


def code_of(record: Record) -> str:
    """Whether the code and data that the record rests on are those of its computation or of a verification, in words.

    "computed with this code", "verified with this code on <date>" or CHANGED.
    """
    today = source_digest(get_experiment(record.experiment), record.parameters)
    if record.provenance["source"] == today:
        return "computed with this code"
    date = verified_on(record, today)
    return f"verified with this code on {date[:10]}" if date else CHANGED
