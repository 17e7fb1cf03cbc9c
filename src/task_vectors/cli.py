"""The `task-vectors` command. Input is checked with light imports only: a typing error costs no kernel and no wait."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from task_vectors.pages.parameters import (
    Parameter,
    ParameterError,
    find_notebook,
    parse_assignments,
    read_parameters,
)
from task_vectors.pages.presets import read_preset
from task_vectors.paths import project_root

if TYPE_CHECKING:
    from task_vectors.records.store import Record

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Task vectors in in-context learning: work with the book's notebooks."""


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="Its name (11_high_rank_failure), its number (11) or a path.")],
    assign: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Set one parameter.")] = None,
    preset: Annotated[str | None, typer.Option(help="Values to start from: smoke, default or paper.")] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Write only the executed notebook, to FILE.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the notebook's parameters and stop.")] = False,
) -> None:
    """Execute a notebook with other parameters; the result is a page of its own under runs/."""
    source = find_notebook(notebook)
    parameters = read_parameters(source)
    if list_:
        print(_parameters_table(parameters))
        return
    values = read_preset(preset, project_root()).get(source.stem, {}) if preset else {}
    values |= parse_assignments(assign or [], parameters)
    if to is None:
        _run_to_page(source, parameters, values)
    else:
        _check_target(to, source)
        _execute(source, to, values)


@app.command()
def records(
    keep: Annotated[bool, typer.Option("--keep", help="Move what was computed here into data/recorded/.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="With --keep: also what was computed with uncommitted changes.")
    ] = False,
) -> None:
    """List the recorded results: what, when, how long, and whether they are known to fit today's code."""
    from task_vectors.experiments.registry import code_of
    from task_vectors.records.kept import keep_records
    from task_vectors.records.store import LIMIT, RecordError

    try:
        for folder in keep_records(allow_dirty) if keep else ():
            print(f"kept {folder.relative_to(project_root())}")
    except RecordError as error:
        raise ParameterError(str(error)) from None
    found, failures = _intact_records()
    rows = [("experiment", "key", "date", "seconds", "kB", "code", "parameters")]
    for record in found:
        shown = " ".join(f"{name}={value}" for name, value in record.parameters.items())
        size, seconds = f"{record.size / 1e3:.0f}", f"{record.provenance['seconds']:.0f}"
        try:
            code = code_of(record)
        except Exception as error:  # one experiment that cannot be imported hides none of the others
            code = f"unknown ({type(error).__name__})"
        rows.append((record.experiment, record.key, record.provenance["date"], seconds, size, code, shown))
    print(_table(rows))
    megabytes = sum(record.size for record in found) / 1e6
    print(f"{len(found)} records, {megabytes:.1f} MB, {sum(r.provenance['seconds'] for r in found) / 60:.0f} minutes")
    if megabytes > LIMIT:
        print(f"warning: records in git should stay below {LIMIT} MB together", file=sys.stderr)
    if failures:
        sys.exit("\n".join(failures))


@app.command()
def verify(
    experiment: Annotated[str | None, typer.Argument(help="Only the records of this experiment.")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only those not known to fit today's code.")] = False,
) -> None:
    """Check every record's files, compute a stated part of each again, and compare."""
    from task_vectors.experiments.verification import is_due, verified

    found, failures = _intact_records()
    wanted = [record for record in found if experiment in (None, record.experiment)]
    if not found or not wanted:
        names = ", ".join(sorted({record.experiment for record in found})) or "none"
        failures.append(f"no records{f' of {experiment!r}' if experiment else ''}; there are: {names}")
    due = [record for record in wanted if not changed or is_due(record)]
    # In the order in which a model is loaded only once.
    due.sort(key=lambda record: [str(record.parameters.get(name)) for name in ("model", "dtype")])
    print(f"{len(found)} records are intact; {len(due) or 'none'} to compute in part", flush=True)
    passed = [verified(record) for record in due]
    for line in failures:
        print(f"FAILED  {line}", flush=True)
    if failures or not all(passed):
        sys.exit(1)


@app.command()
def findings(
    accept: Annotated[bool, typer.Option("--accept", help="Write what was found to data/findings.csv.")] = False,
) -> None:
    """Name the findings of the executed notebooks, at default parameters, that are not as in data/findings.csv.

    Exits with 1 where there are some, but for --accept.
    """
    from task_vectors.pages import scoreboard

    found = scoreboard.executed_findings(sorted((project_root() / "executed").glob("[!.]*.ipynb")))
    moved = {name: scoreboard.moved_findings(rows) for name, rows in found.groupby("chapter")}
    for chapter, changes in moved.items():
        for key, what in changes.items():
            print(f"{chapter}  {key}: {what}")
    number = sum(map(len, moved.values()))
    if accept:
        scoreboard.accept(found)
    where = f"of {len(moved)} chapters at their default parameters" if moved else "at default parameters"
    print(f"{len(found)} findings {where}, {number} not as accepted{' until now' if accept and number else ''}")
    if number and not accept:
        sys.exit(1)


@app.command()
def models(
    check: Annotated[bool, typer.Option("--check", help="Compare every bit of those that are converted.")] = False,
) -> None:
    """List the models that come with pip: what is there, and what each needs in disk, memory and minutes.

    Exits with 1 where one is damaged.
    """
    from task_vectors.lm.inventory import inventory

    found = inventory(check)
    print(_table([list(found.columns), *found.to_numpy().tolist()]))
    if (found["state"] == "damaged").any():
        sys.exit(1)


def _intact_records() -> tuple[list["Record"], list[str]]:
    """The records that can be read, and a line for each that cannot or is missing."""
    from task_vectors.records.kept import missing
    from task_vectors.records.store import RecordError, committed_folder, find_record, record_folders, stored

    found, failures = [], []
    for name in stored():
        try:
            found.append(find_record(name))
        except RecordError as error:
            failures.append(f"{name} {error}")
    if committed_folder() in record_folders():
        try:
            failures += [f"{name} is listed in its manifest, and missing" for name in missing(committed_folder())]
        except RecordError as error:
            failures.append(str(error))
    return [record for record in found if record], failures


def run_key(notebook: str, values: Mapping[str, object]) -> str:
    """The short name of a run: a digest of the notebook's name and the values of all its parameters."""
    text = json.dumps([notebook, values], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: bad input ends with one line on stderr and exit code 2, a notebook that fails with 1."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an arrow that the terminal's encoding lacks is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="task-vectors")
    except (ParameterError, FileNotFoundError) as error:
        print(f"task-vectors: {error}", file=sys.stderr)
        sys.exit(2)


def _check_target(target: Path, source: Path) -> None:
    if target.suffix != ".ipynb":
        raise ParameterError(f"--to names the executed notebook, a file that ends in .ipynb, got {str(target)!r}")
    folder = project_root() / "notebooks"
    if os.path.exists(target) and any(target.samefile(notebook) for notebook in (source, *folder.glob("*.ipynb"))):
        raise ParameterError(f"--to {target} would overwrite a notebook's source; name another file")
    if folder in target.resolve().parents:
        raise ParameterError(f"--to {target} would stand among the notebooks' sources; name another folder")
    try:  # before the run and not after it
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.stem}.partial"):
            pass
    except OSError as error:
        raise ParameterError(f"--to {target} cannot be written: {error.strerror}") from None
    if target.is_dir():
        raise ParameterError(f"--to {target} is a folder; name a file")


def _run_to_page(source: Path, parameters: Mapping[str, Parameter], values: Mapping[str, object]) -> None:
    full = {name: parameter.default for name, parameter in parameters.items()} | dict(values)
    folder = project_root() / "runs" / source.stem / run_key(source.stem, full)
    executed = folder / source.name
    _execute(source, executed, values)
    from task_vectors.pages.standalone import write_page

    (folder / "parameters.yaml").write_text(yaml.safe_dump(full, sort_keys=False, allow_unicode=True), encoding="utf-8")
    print(write_page(executed))


def _execute(source: Path, target: Path, values: Mapping[str, object]) -> None:
    from task_vectors.pages.execution import ExecutionError, execute

    try:
        execute(source, target, values)
    except ExecutionError as error:
        print(f"{error.details}\ntask-vectors: {error}", file=sys.stderr)
        sys.exit(1)


def _parameters_table(parameters: Mapping[str, Parameter]) -> str:
    rows = [("name", "type", "default", "help")]
    return _table(rows + [(item.name, item.kind, repr(item.default), item.help) for item in parameters.values()])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side; the last one is as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)
