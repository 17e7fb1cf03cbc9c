"""Recorded results: what took long is computed once, kept with its provenance, and never trusted without its checksums.

A record is a folder <experiment>/<key>/ with CSV tables, safetensors and provenance.json. Committed ones lie in
data/recorded/; what this machine computed itself lies in runs/recorded/ until it is kept. The environment variable
TASK_VECTORS_RECORDS names one folder to read and write instead of both.
"""

import contextlib
import functools
import hashlib
import inspect
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from task_vectors.paths import project_root
from task_vectors.records.dependencies import dependencies
from task_vectors.records.environment import environment
from task_vectors.records.files import read_table, write_results

PROVENANCE = "provenance.json"
LIMIT = 32  # megabytes of records in git, which compresses them to about half
# What an experiment imports to be kept and found: no change here changes a number.
BOOKKEEPING = (
    "records/__init__",
    "records/store",
    "records/files",
    "records/environment",
    "records/dependencies",
    "paths",
)


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

    run(**parameters) gives tables (DataFrame, kept as <name>.csv) and tensors (a dict by name, kept as
    <name>.safetensors). verify(record) computes a stated part of one record again, in seconds. `version` is raised when
    the meaning of the results changes.
    """

    name: str
    version: int
    run: Callable[..., Mapping[str, object]]
    verify: Callable[["Record"], list[Comparison]]

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
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def table(self, name: str) -> pd.DataFrame:
        """A table as it was computed: the same numbers to the last bit, and the same column types."""
        # The first records kept no column types; they hold numbers and booleans only, which need none.
        return read_table(self.folder / f"{name}.csv", self.provenance.get("columns", {}).get(name))

    def tensors(self, name: str) -> dict:
        from safetensors.torch import load_file

        return load_file(self.folder / f"{name}.safetensors")


def recorded(experiment: Experiment, *, recompute: bool = False, **parameters) -> Record:
    """The record of `experiment` at these parameters: read where there is an intact one, computed otherwise.

    Parameters are numbers, texts, booleans and lists of them. recompute=True computes in any case.
    Raises RecordError for a record that is damaged or edited, which is never replaced in silence, and ValueError for
    parameters that the experiment does not take or that JSON cannot hold.
    """
    _check(experiment, parameters)
    key = record_key(experiment, parameters)
    for folder in [] if recompute else _folders():
        if (folder / experiment.name / key).is_dir():
            return read_record(folder / experiment.name / key)
    return _compute(experiment, key, parameters)


def record_key(experiment: Experiment, parameters: Mapping[str, object]) -> str:
    """The name of a record's folder: a digest of the experiment, its version and its parameters."""
    return _key(experiment.name, experiment.version, parameters)


def read_record(folder: Path, from_here: bool = False) -> Record:
    """The record in `folder`, after every file's checksum was compared with its provenance."""
    advice = "restore it with git, or delete the folder to compute it again"
    path = folder / PROVENANCE
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
        seal = provenance.pop("seal")
        named = _key(provenance["experiment"], provenance["version"], provenance["parameters"])
        files = provenance["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} cannot be read ({type(error).__name__}: {error}); {advice}") from None
    if seal != _digest(_canonical(provenance)):
        raise RecordError(f"{path} was edited: its content does not give its own checksum; {advice}")
    if named != folder.name:
        raise RecordError(f"{path} belongs to a record {named}, not to {folder.name}; {advice}")
    found = {file.name for file in folder.iterdir()} - {PROVENANCE}
    for name in sorted(found ^ set(files)):
        raise RecordError(f"{folder / name} is {'not part of the record' if name in found else 'missing'}; {advice}")
    for name, checksum in files.items():
        if (now := _digest((folder / name).read_bytes())) != checksum:
            raise RecordError(f"{folder / name} has checksum {now[:12]} and {checksum[:12]} was recorded; {advice}")
    return Record(folder, provenance, from_here)


def all_records(*folders: Path) -> Iterator[Record]:
    """Every record in these folders (or where recorded() looks), by experiment and key; RecordError if damaged."""
    seen = set()
    for folder in folders or _folders():
        for path in _stored(folder):
            name = path.relative_to(folder)
            if name not in seen:
                seen.add(name)
                yield read_record(path)


def keep_records() -> list[Path]:
    """Move what this machine computed to data/recorded/, where git sees it; the new folders."""
    kept, computed = _committed(), _folders()[-1]
    moved = []
    for path in _stored(computed):
        read_record(path)
        target = kept / path.relative_to(computed)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        moved.append(Path(shutil.move(path, target)))
    return moved


@functools.cache  # a process runs the code that it has imported; hundreds of records may ask
def source_digest(module: str) -> str:
    """A digest of the module's file, of every module of ours that it imports, and of the data files they name.

    Recorded results are left out, and so are the modules that only keep them.
    """
    root = project_root()
    file = root.joinpath("src", *module.split("."))
    source = file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__init__.py"
    names = {source.relative_to(root).as_posix(), *dependencies(source, root=root)}
    names -= {f"src/task_vectors/{name}.py" for name in BOOKKEEPING}
    digest = hashlib.sha256()
    for name in sorted(name for name in names if not name.startswith("data/recorded/")):
        content = (root / name).read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {_digest(content)}\n".encode())
    return digest.hexdigest()


def _compute(experiment: Experiment, key: str, parameters: Mapping[str, object]) -> Record:
    shown = ", ".join(f"{name}={value}" for name, value in parameters.items())
    print(f"computing {experiment.name} ({shown})", file=sys.stderr, flush=True)
    target = _folders()[-1] / experiment.name / key
    replaces = _identity(target)
    source, started = source_digest(experiment.module), time.monotonic()
    results = experiment.run(**parameters)
    seconds = time.monotonic() - started
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as name:
        folder = Path(name, key)
        folder.mkdir()
        columns = write_results(folder, results)
        provenance = {
            "experiment": experiment.name,
            "version": experiment.version,
            "parameters": dict(parameters),
            "source": source,
            "seconds": round(seconds, 1),
            **environment(),
            "columns": columns,
            "files": {file.name: _digest(file.read_bytes()) for file in sorted(folder.iterdir())},
        }
        sealed = provenance | {"seal": _digest(_canonical(provenance))}
        (folder / PROVENANCE).write_text(json.dumps(sealed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        ours = _put(folder, target, replaces)
    print(f"computed {experiment.name} in {seconds:.0f} s", file=sys.stderr, flush=True)
    return read_record(target, from_here=ours)


def _check(experiment: Experiment, parameters: Mapping[str, object]) -> None:
    try:
        inspect.signature(experiment.run).bind(**parameters)
    except TypeError as error:
        takes = ", ".join(inspect.signature(experiment.run).parameters)
        raise ValueError(f"experiment {experiment.name!r}: {error}; it takes: {takes}") from None
    for name, value in parameters.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            allowed = "a finite number, a text, a boolean or a list of them"
            raise ValueError(f"parameter {name!r} must be {allowed}, got {type(value).__name__}") from None


def _put(folder: Path, target: Path, replaces: tuple[int, int] | None) -> bool:
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
        if _identity(target) != replaces:
            return False
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as old, contextlib.suppress(FileNotFoundError):
            target.rename(Path(old, "replaced"))


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another of the same name; None where there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _committed() -> Path:
    return project_root().joinpath("data", "recorded")


def _folders() -> list[Path]:
    """Where records are read, in this order; the last one is where they are written."""
    if named := os.environ.get("TASK_VECTORS_RECORDS"):
        return [Path(named)]
    return [_committed(), project_root().joinpath("runs", "recorded")]


def _stored(folder: Path) -> list[Path]:
    """The folders of records; one that starts with a dot is still being written."""
    return [path for path in sorted(folder.glob("[!.]*/[!.]*")) if path.is_dir()]


def _key(name: str, version: int, parameters: Mapping[str, object]) -> str:
    return _digest(_canonical([name, version, parameters]))[:12]


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
