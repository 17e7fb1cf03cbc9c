"""The `task-vectors` command. Input is checked with light imports only: a typing error costs no kernel and no wait."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from task_vectors.pages.parameters import (
    Parameter,
    ParameterError,
    check_values,
    find_notebook,
    parse_assignments,
    read_parameters,
)
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
    values = _preset_values(preset, source.stem, parameters) if preset else {}
    values |= parse_assignments(assign or [], parameters)
    if to is None:
        _run_to_page(source, parameters, values)
    else:
        _check_target(to, source)
        _execute(source, to, values)


@app.command()
def records(
    keep: Annotated[bool, typer.Option("--keep", help="Move what was computed here into data/recorded/.")] = False,
) -> None:
    """List the recorded results: what, when, how long, and whether the code has changed since."""
    from task_vectors.experiments.registry import code_changed
    from task_vectors.records.store import LIMIT

    found = _intact_records(keep)
    rows = [("experiment", "key", "date", "seconds", "kB", "code", "parameters")]
    for record in found:
        facts = record.provenance
        code = "changed" if code_changed(record) else "same"
        shown = " ".join(f"{name}={value}" for name, value in record.parameters.items())
        size = f"{record.size / 1e3:.0f}"
        rows.append((record.experiment, record.key, facts["date"], f"{facts['seconds']:.0f}", size, code, shown))
    print(_table(rows))
    megabytes = sum(record.size for record in found) / 1e6
    print(f"{len(found)} records, {megabytes:.1f} MB, {sum(r.provenance['seconds'] for r in found) / 60:.0f} minutes")
    if megabytes > LIMIT:
        print(f"warning: records in git should stay below {LIMIT} MB together", file=sys.stderr)


@app.command()
def verify(
    experiment: Annotated[str | None, typer.Argument(help="Only the records of this experiment.")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only where the code has changed since.")] = False,
) -> None:
    """Check every record's files, compute a stated part of each again, and compare."""
    from task_vectors.experiments.registry import code_changed

    found = _intact_records()
    names = sorted({record.experiment for record in found})
    if experiment is not None and experiment not in names:
        raise ParameterError(f"no records of {experiment!r}; there are: {', '.join(names) or 'none'}")
    wanted = [record for record in found if experiment in (None, record.experiment)]
    wanted = [record for record in wanted if not changed or code_changed(record)]
    print(f"{len(found)} records are intact; {len(wanted)} to compute in part", flush=True)
    if not all([_verify_one(record) for record in wanted]):
        sys.exit(1)


@app.command()
def findings(
    accept: Annotated[bool, typer.Option("--accept", help="Write what was found to data/findings.csv.")] = False,
) -> None:
    """Compare the findings of the executed notebooks, at their default parameters, with data/findings.csv."""
    from task_vectors.pages import scoreboard

    found = scoreboard.executed_findings(sorted((project_root() / "executed").glob("*.ipynb")))
    moved = {name: scoreboard.moved_findings(rows) for name, rows in found.groupby("chapter")}
    for chapter, lines in moved.items():
        for key, what in lines.items():
            print(f"{chapter}: {key}: {what}")
    print(f"{len(found)} findings at default parameters, {sum(map(len, moved.values()))} of them not as accepted")
    if accept:
        scoreboard.accept(found)
    elif any(moved.values()):
        sys.exit(1)


def _intact_records(keep: bool = False) -> list["Record"]:
    from task_vectors.records.store import RecordError, all_records, keep_records

    try:
        for folder in keep_records() if keep else ():
            print(f"kept {folder.relative_to(project_root())}")
        return list(all_records())
    except RecordError as error:
        raise ParameterError(str(error)) from None


def _verify_one(record: "Record") -> bool:
    from task_vectors.experiments.registry import get_experiment

    name = f"{record.experiment}/{record.key}"
    try:
        comparisons = get_experiment(record.experiment).verify(record)
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
    return all(item.agrees for item in comparisons)


def run_key(notebook: str, values: Mapping[str, object]) -> str:
    """The short name of a run: a digest of the notebook's name and the values of all its parameters."""
    text = json.dumps([notebook, values], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: bad input ends with one line on stderr and exit code 2, a notebook that fails with 1."""
    try:
        app(args=arguments, prog_name="task-vectors")
    except (ParameterError, FileNotFoundError) as error:
        print(f"task-vectors: {error}", file=sys.stderr)
        sys.exit(2)


def _preset_values(preset: str, notebook: str, parameters: Mapping[str, Parameter]) -> dict[str, object]:
    folder = project_root() / "workflow" / "presets"
    path = folder / f"{preset}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise ParameterError(f"unknown preset {preset!r}; there are: {known}")
    values = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get(notebook) or {}
    try:
        return check_values(values, parameters)
    except ParameterError as error:
        raise ParameterError(f"preset {preset!r}, {notebook}: {error}") from None


def _check_target(target: Path, source: Path) -> None:
    if target.suffix != ".ipynb":
        raise ParameterError(f"--to names the executed notebook, a file that ends in .ipynb, got {str(target)!r}")
    if target.resolve() == source.resolve():
        raise ParameterError(f"--to {target} would overwrite the notebook itself; name another file")


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
