"""Records verified with today's code: what is due, and one line for each number that is compared."""

from task_vectors.experiments.registry import CHANGED, code_of, get_experiment
from task_vectors.records.digest import source_digest
from task_vectors.records.ledger import note_verified
from task_vectors.records.store import Record


def is_due(record: Record) -> bool:
    """Whether the record is not known to fit today's code, or that cannot be told."""
    try:
        return code_of(record) == CHANGED
    except Exception:  # verified() says what is wrong
        return True


def verified(record: Record) -> bool:
    """Compute a stated part of the record again, print how it compares, and note in the ledger where it all agrees."""
    name = f"{record.experiment}/{record.key}"
    try:
        experiment = get_experiment(record.experiment)
        if record.provenance["version"] != experiment.version:
            raise ValueError(
                f"is of version {record.provenance['version']}, and the experiment's is {experiment.version}"
            )
        source, comparisons = source_digest(experiment, record.parameters), experiment.verify(record)
    except Exception as error:  # one experiment that no longer runs hides none of the others
        print(f"FAILED  {name} {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return False
    if not comparisons:
        print(f"FAILED  {name} its verify() compared nothing", flush=True)
        return False
    for item in comparisons:
        verdict = "ok     " if item.agrees else "DIFFERS"
        numbers = f"recorded {item.recorded:.6g}, computed {item.computed:.6g} (within {item.tolerance:.0e})"
        print(f"{verdict} {name} {item.what}: {numbers}", flush=True)
    if agrees := all(item.agrees for item in comparisons):
        note_verified(record, source)
    return agrees
