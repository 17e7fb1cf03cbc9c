"""Run a notebook with papermill: progress on the terminal, and a result that appears whole or not at all."""

import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
import papermill
from traitlets.config import Config

from task_vectors.records.scratch import scratch_folder


class ExecutionError(RuntimeError):
    """A notebook stopped before its end; the message is one line, `details` holds the traceback."""

    def __init__(self, message: str, details: str = ""):
        super().__init__(message)
        self.details = details


def execute(source: Path, target: Path, values: Mapping[str, object]) -> None:
    """Execute `source` with `values` put over its parameters and write it to `target`.

    A run that fails leaves `target` as it was, keeps what it has so far beside it as `.failed.ipynb`, and raises
    ExecutionError.
    """
    progress = _Progress(source, extra_cells=1 if values else 0)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "5")  # a log needs no ten updates a second
    with scratch_folder(target.parent) as scratch:
        partial, failed = scratch / target.name, target.with_suffix(".failed.ipynb")
        try:
            notebook = papermill.execute_notebook(
                source,
                partial,
                dict(values),
                kernel_name="python3",
                progress_bar=False,
                stderr_file=sys.stderr,
                extra_arguments=["--IPKernelApp.log_level=40"],  # the kernel would warn of TCP on each run
                # Else it would lie among all temporary files.
                config=Config(KernelManager={"connection_file": str(scratch.resolve() / "kernel.json")}),
                on_cell_start=progress.start,
                on_cell_executed=progress.finish,
            )
        except BaseException as error:
            kept = f"; the notebook up to there: {partial.replace(failed)}" if partial.exists() else ""
            if not isinstance(error, Exception):
                raise
            message = f"{source.name}, section {progress.heading!r}: {_summary(error)}{kept}"
            raise ExecutionError(message, details=str(error)) from error
        _drop_stderr(notebook)
        notebook.metadata.papermill.output_path = str(target)
        nbformat.write(notebook, partial)
        partial.replace(target)
        failed.unlink(missing_ok=True)


class _Progress:
    """A line on the terminal for each finished code cell: which, how long, under which heading."""

    def __init__(self, source: Path, extra_cells: int):
        cells = nbformat.read(source, as_version=4).cells
        self.name = source.stem
        self.total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells) + extra_cells
        self.done = 0
        self.heading = ""
        self.started = 0.0

    def start(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+\s+(.+)$", cell.source, flags=re.MULTILINE)
            self.heading = headings[-1] if headings else self.heading
        self.started = time.monotonic()

    def finish(self, cell: nbformat.NotebookNode, cell_index: int, execute_reply: Mapping) -> None:
        self.done += 1
        seconds = time.monotonic() - self.started
        mark = "  FAILED" if execute_reply["content"]["status"] == "error" else ""
        line = f"{self.name} [{self.done:>2}/{self.total}] {seconds:7.1f} s  {self.heading}{mark}"
        print(line, file=sys.stderr, flush=True)


def _summary(error: Exception) -> str:
    if isinstance(error, papermill.PapermillExecutionError):
        return f"{error.ename}: {error.evalue}".splitlines()[0]
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _drop_stderr(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
