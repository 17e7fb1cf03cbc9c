"""The records that git keeps, and a manifest of them for each experiment: a line of key and seal for every record.

A manifest stands for the many files of an experiment's records: it is what the workflow looks at, and it tells which
records are missing. Delete the line of a record that shall no longer be there.
"""

import shutil
from pathlib import Path

from task_vectors.records.environment import DIRTY
from task_vectors.records.files import replace_text
from task_vectors.records.scratch import alone, remove, scratch_folder, sweep
from task_vectors.records.store import (
    RecordError,
    committed_folder,
    folder_identity,
    put,
    read_record,
    record_folders,
    stored,
)


def keep_records(allow_dirty: bool = False) -> list[Path]:
    """Move what this machine computed to data/recorded/, where git sees it; the new folders.

    Raises RecordError, and moves nothing, if one was computed from code that no commit holds.
    """
    kept, computed = committed_folder(), record_folders()[-1]
    with alone(computed):  # of two that move the same records, the second finds none
        for folder in {home for root in (kept, computed) for home in (root, *root.glob("[!.]*/"))}:
            sweep(folder)
        return _keep(kept, computed, allow_dirty)


def _keep(kept: Path, computed: Path, allow_dirty: bool) -> list[Path]:
    records = [] if computed == kept else [read_record(computed / name) for name in stored(computed)]
    dirty = [f"{record.experiment}/{record.key}" for record in records if record.provenance["commit"].endswith(DIRTY)]
    if dirty and not allow_dirty:
        raise RecordError(
            f"{', '.join(dirty)}: computed{DIRTY}, so no commit has the code: delete and compute again from a clean "
            "commit, or --allow-dirty"
        )
    moved = [_move(record.folder, kept / record.experiment / record.key) for record in records]
    for experiment in sorted({name.parts[0] for name in stored(kept)}):
        write_manifest(kept / experiment)
    return moved


def write_manifest(experiment: Path) -> None:
    """List the records in this folder in the file beside it, and keep the lines of those that are missing."""
    path = _manifest(experiment)
    # Until nothing more has come: of two that write at the same time, the later one may not know what the other added.
    while (wanted := _read(path) | _seals(experiment)) != _read(path):
        replace_text(path, "".join(f"{key} {seal}\n" for key, seal in sorted(wanted.items())))


def missing(folder: Path) -> list[str]:
    """<experiment>/<key> of every record that a manifest in this folder lists and that is not there.

    Raises RecordError for a manifest that is damaged.
    """
    listed = {f"{path.stem}/{key}" for path in folder.glob("*.manifest") for key in _read(path)}
    return sorted(listed - {name.as_posix() for name in stored(folder)})


def _move(source: Path, target: Path) -> Path:
    """Whole or not at all, also from another file system; never is there none of the two."""
    replaces = folder_identity(target)
    with scratch_folder(target.parent) as scratch:
        put(Path(shutil.copytree(source, scratch / target.name)), target, replaces)
    remove(source)
    return target


def _manifest(experiment: Path) -> Path:
    return experiment.with_name(f"{experiment.name}.manifest")


def _read(path: Path) -> dict[str, str]:
    try:
        return dict(line.split() for line in path.read_text(encoding="utf-8").splitlines()) if path.is_file() else {}
    except ValueError:
        raise RecordError(f"{path} is damaged, its lines are no pairs of key and seal; restore it with git") from None


def _seals(experiment: Path) -> dict[str, str]:
    records = [read_record(folder) for folder in experiment.glob("[!.]*") if folder.is_dir()]
    return {record.key: record.seal for record in records}
