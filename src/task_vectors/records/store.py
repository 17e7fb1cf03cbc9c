"""Recorded results: what took long is computed once, kept with its provenance, and never trusted without its checksums.

A record is a folder <experiment>/<key>/ with tables, safetensors and provenance.json. Committed ones lie in
data/recorded/; what this machine computed itself lies in runs/recorded/ until it is kept. The environment variable
TASK_VECTORS_RECORDS names one folder to read and write instead of both.

Checksums and the seal over them detect damage, not forgery: there is no secret in them.
"""

import hashlib
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from task_vectors.paths import project_root
from task_vectors.records.digest import source_digest
from task_vectors.records.environment import environment
from task_vectors.records.fields import wrong_fields
from task_vectors.records.files import read_table, write_results
from task_vectors.records.scratch import alone, remove, scratch_folder, sweep

PROVENANCE = "provenance.json"
RECORDED = "recorded"  # in a training's folder, before it is removed: the seal of its record
LIMIT = 32  # megabytes of records in git
ADVICE = "restore it with git, or delete the folder to compute it again"


class RecordError(RuntimeError):
    """A record is damaged or edited; the message is one line that names the file and says what to do."""


@dataclass(frozen=True)
class Comparison:
    """One number of a record beside what was computed again; they agree within `tolerance` times the recorded size."""

    what: str
    recorded: float
    computed: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        bound = self.tolerance * abs(self.recorded)
        return bool(self.computed == self.recorded or abs(self.computed - self.recorded) <= bound < math.inf)


@dataclass(frozen=True)
class Experiment:
    """A long computation whose results are recorded: a constant that task_vectors.experiments.registry names.

    `run(**parameters)` gives tables (DataFrame, kept as <name>.csv.gz) and tensors (a dict by name, kept as
    <name>.safetensors). If it takes `scratch`, that is no parameter: `recorded` gives it a folder to keep a training
    in, always the same for the same parameters, and removes the folder when the record is in place.
    `verify(record)` computes a stated part of one record again, in seconds. `version` is raised when the meaning of the
    results changes. `rests_on(parameters)` names what the results rest on beyond the modules that the experiment's own
    imports: files, relative to the project, that are read because of a parameter (a task's pairs, a family's module).
    """

    name: str
    version: int
    run: Callable[..., Mapping[str, object]]
    verify: Callable[["Record"], list[Comparison]]
    rests_on: Callable[[Mapping[str, object]], Iterable[str]] = lambda parameters: ()

    @property
    def module(self) -> str:
        return self.run.__module__


@dataclass(frozen=True)
class Record:
    """An intact record. `from_here` tells that this very call computed it."""

    folder: Path
    provenance: Mapping[str, object]
    from_here: bool = False

    @property
    def experiment(self) -> str:
        return self.provenance["experiment"]

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def parameters(self) -> dict:
        return self.provenance["parameters"]

    @property
    def seal(self) -> str:
        """sha256 of the provenance, which holds the checksums of all files."""
        return _digest(_canonical(self.provenance))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def table(self, name: str) -> pd.DataFrame:
        """A table as it was computed: the same numbers to the last bit, and the same column types.

        Raises KeyError where the record has none of this name, RecordError where its columns are not of their types.
        """
        types = self.provenance["columns"][name]
        try:
            return read_table(self.folder, name, types)
        except (OSError, ValueError, KeyError, TypeError) as error:
            told = f"table {name!r} cannot be read ({' '.join(str(error).split())})"
            raise RecordError(f"{self.folder}: {told}; {ADVICE}") from None

    def tensors(self, name: str) -> dict:
        from safetensors.torch import load_file

        return load_file(self.folder / f"{name}.safetensors")


def recorded(experiment: Experiment, *, recompute: bool = False, **parameters) -> Record:
    """The record of `experiment` at these parameters: read where there is an intact one, computed otherwise.

    Parameters are numbers, texts, booleans and lists of them; one that equals run's default is as one that is not
    given. recompute=True computes in any case.
    Raises RecordError for a record that is damaged or edited, which is never replaced in silence, and ValueError for
    parameters that the experiment does not take or that JSON cannot hold.
    """
    _check(experiment, parameters)
    parameters = _without_defaults(experiment, parameters)
    key = record_key(experiment, parameters)
    found = None if recompute else find_record(Path(experiment.name, key))
    if found:
        sweep(record_folders()[-1] / experiment.name)
    if "scratch" not in inspect.signature(experiment.run).parameters:
        return found or _compute(experiment, key, parameters)
    training = project_root().joinpath("runs", "scratch", experiment.name, key)
    if found:
        _end_removal(training, found)
        return found
    with alone(training) as waited:
        found = find_record(Path(experiment.name, key)) if waited and not recompute else None
        return found or _compute(experiment, key, parameters, training)


def record_key(experiment: Experiment, parameters: Mapping[str, object]) -> str:
    """The name of a record's folder: a digest of the experiment, its version and its parameters."""
    return _key(experiment.name, experiment.version, _without_defaults(experiment, parameters))


def read_record(folder: Path, from_here: bool = False) -> Record:
    """The record in `folder`, after every file's checksum was compared with its provenance."""
    path = folder / PROVENANCE
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
        seal = provenance.pop("seal")
        if wrong := wrong_fields(provenance):
            raise ValueError(f"missing or of another form: {', '.join(wrong)}")
        if seal != _digest(_canonical(provenance)):
            raise RecordError(f"{path} was edited: its content does not give its own checksum; {ADVICE}")
        found = {file.name for file in folder.iterdir()} - {PROVENANCE}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"{path} cannot be read ({type(error).__name__}: {error}); {ADVICE}") from None
    identity = (provenance[name] for name in ("experiment", "version", "parameters"))
    named = Path(provenance["experiment"], _key(*identity))
    if named != (here := Path(*folder.parts[-2:])):
        raise RecordError(f"{path} belongs to a record {str(named)!r}, not to {here}; {ADVICE}")
    for name in sorted(found ^ set(provenance["files"])):
        raise RecordError(f"{folder / name} is {'not part of the record' if name in found else 'missing'}; {ADVICE}")
    for name, checksum in provenance["files"].items():
        now = _digest((folder / name).read_bytes()) if (folder / name).is_file() else "nothing"
        if now != checksum:
            raise RecordError(f"{folder / name} has checksum {now[:12]} and {checksum[:12]} was recorded; {ADVICE}")
    return Record(folder, provenance, from_here)


def find_record(name: Path, *folders: Path) -> Record | None:
    """The record <experiment>/<key> in the first of these folders (or where recorded() looks) that has it."""
    for last in (False, True):
        try:
            for folder in folders or record_folders():
                if (folder / name).is_dir():
                    return read_record(folder / name)
            return None
        except RecordError:
            if last:  # else it may just have been moved from one folder to the other
                raise


def stored(*folders: Path) -> list[Path]:
    """Every <experiment>/<key> in these folders (or where recorded() looks), intact or not, in order.

    One that starts with a dot is still being written.
    """
    found = (path for folder in folders or record_folders() for path in folder.glob("[!.]*/[!.]*") if path.is_dir())
    return sorted({Path(*path.parts[-2:]) for path in found})


def all_records(*folders: Path) -> Iterator[Record]:
    """Every record in these folders (or where recorded() looks), by experiment and key; RecordError if damaged."""
    found = (find_record(name, *folders) for name in stored(*folders))
    return (record for record in found if record)


def committed_folder() -> Path:
    """Where the records lie that git keeps."""
    return project_root().joinpath("data", "recorded")


def record_folders() -> list[Path]:
    """Where records are read, in this order; the last one is where they are written."""
    if named := os.environ.get("TASK_VECTORS_RECORDS"):
        return [Path(named)]
    return [committed_folder(), project_root().joinpath("runs", "recorded")]


def _compute(experiment: Experiment, key: str, parameters: Mapping, training: Path | None = None) -> Record:
    shown = ", ".join(f"{name}={value}" for name, value in parameters.items())
    print(f"computing {experiment.name} ({shown})", file=sys.stderr, flush=True)
    target = record_folders()[-1] / experiment.name / key
    replaces = folder_identity(target)
    # Before the computation: what changes while it runs did not take part in it.
    origin, started = {"source": source_digest(experiment, parameters), **environment()}, time.monotonic()
    # A training of other code is not gone on with.
    given = {"scratch": training / origin["source"][:12]} if training else {}
    results = experiment.run(**parameters, **given)
    seconds = time.monotonic() - started
    with scratch_folder(target.parent) as scratch:
        folder = scratch / key
        folder.mkdir()
        columns = write_results(folder, results)
        provenance = {
            "experiment": experiment.name,
            "version": experiment.version,
            "parameters": dict(parameters),
            "seconds": round(seconds, 1),
            **origin,
            "columns": columns,
            "files": {file.name: _digest(file.read_bytes()) for file in sorted(folder.iterdir())},
        }
        seal = write_provenance(folder, provenance)
        if training:
            (training / RECORDED).write_text(seal, encoding="utf-8")
        ours = put(folder, target, replaces)
    if training:
        remove(training)  # or computing the record again would train nothing
    print(f"computed {experiment.name} in {seconds:.0f} s", file=sys.stderr, flush=True)
    return read_record(target, from_here=ours)


def _end_removal(training: Path, record: Record) -> None:
    """Remove what is left of a training where a kill came after its record was in place.

    A training without a mark is one of a record that is being computed anew, and stays.
    """
    if not training.parent.is_dir():
        return
    sweep(training.parent)
    mark = training / RECORDED
    if mark.is_file() and mark.read_text(encoding="utf-8") == record.seal:
        with alone(training):
            remove(training)


def write_provenance(folder: Path, provenance: Mapping[str, object]) -> str:
    """Write provenance.json with its seal; the seal."""
    seal = _digest(_canonical(provenance))
    text = json.dumps(provenance | {"seal": seal}, indent=1, ensure_ascii=False)
    (folder / PROVENANCE).write_text(f"{text}\n", encoding="utf-8")
    return seal


def _check(experiment: Experiment, parameters: Mapping[str, object]) -> None:
    signature = _signature(experiment)
    try:
        signature.bind(**parameters)
    except TypeError as error:
        takes = ", ".join(signature.parameters)
        raise ValueError(f"experiment {experiment.name!r}: {error}; it takes: {takes}") from None
    for name, value in parameters.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            allowed = "a finite number, a text, a boolean or a list of them"
            raise ValueError(f"parameter {name!r} must be {allowed}, got {type(value).__name__}") from None


def _without_defaults(experiment: Experiment, parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters that say something: what was called in another way is the same record."""
    defaults = {name: item.default for name, item in _signature(experiment).parameters.items()}
    required = inspect.Parameter.empty
    return {
        name: value
        for name, value in parameters.items()
        if defaults.get(name, required) is required or _canonical(value) != _canonical(defaults[name])
    }


def _signature(experiment: Experiment) -> inspect.Signature:
    """What a record of the experiment is asked for by."""
    whole = inspect.signature(experiment.run)
    return whole.replace(parameters=[item for item in whole.parameters.values() if item.name != "scratch"])


def put(folder: Path, target: Path, replaces: tuple[int, int] | None) -> bool:
    """Rename into place: whole or not at all. Of two processes that computed the same record, the first one's stays.

    Only the record that was there before the computation is replaced, for another one may already be being read.
    """
    while True:
        try:
            folder.rename(target)
            return True
        except OSError:
            if not target.exists():
                raise
        if folder_identity(target) != replaces:
            return False
        with scratch_folder(target.parent) as old, suppress(OSError):
            target.rename(old / "replaced")
            folder.rename(target)
            return True


def folder_identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another of the same name; None where there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _key(name: str, version: int, parameters: Mapping[str, object]) -> str:
    return _digest(_canonical([name, version, parameters]))[:12]


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
