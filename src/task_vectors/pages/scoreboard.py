"""All findings of the book in one committed table: numbers that cannot drift, and the verdicts that were written.

data/findings.csv holds every finding at the default parameters. An executed notebook keeps its rows; where they differ
from the table, `task-vectors findings` names them, and `--accept` makes the change a visible line of a commit.
"""

import ast
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from task_vectors.measures.statistics import Estimate
from task_vectors.pages.findings import COLUMNS, ROWS
from task_vectors.pages.reading import ParameterError, read_cells
from task_vectors.paths import project_root

TOLERANCE = 0.05  # of an interval's width, by which an estimate may move from processor to processor
NUMBERS = ("mean", "low", "high", "p")


def accepted() -> pd.DataFrame:
    """data/findings.csv, as a table."""
    path = project_root() / "data" / "findings.csv"
    texts = {name: str for name in COLUMNS if name not in NUMBERS}
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={name: [""] for name in NUMBERS})


def moved_findings(found: pd.DataFrame) -> dict[str, str]:
    """Of one chapter's rows: each key that is not as accepted, with what has moved.

    An estimate may move by TOLERANCE of its interval's width, from processor to processor; without an interval, by
    TOLERANCE of itself.
    """
    known = accepted()
    known, rows = known[known.chapter.isin(found.chapter)].set_index("key"), found.set_index("key")
    moved = dict.fromkeys(known.index.difference(rows.index), "is not found any more")
    for key, row in rows.iterrows():
        if key not in known.index:
            moved[key] = "is new"
            continue
        before = known.loc[key]
        width = before.high - before.low if np.isfinite(before.high - before.low) else abs(before["mean"])
        changes = [name for name in ("claim", "published", "source", "rule", "verdict") if row[name] != before[name]]
        numbers = [name for name in ("mean", "low", "high") if not _near(row[name], before[name], TOLERANCE * width)]
        if changes + numbers:
            moved[key] = ", ".join(
                [f"{name} was {before[name]!r}" for name in changes]
                + [f"{name} {before[name]:.4g} is {row[name]:.4g}" for name in numbers]
            )
    return moved


def _near(a: float, b: float, tolerance: float) -> bool:
    return (np.isnan(a) and np.isnan(b)) or bool(abs(a - b) <= tolerance + 1e-9)


def executed_findings(executed: Iterable[Path]) -> pd.DataFrame:
    """The rows that executed notebooks keep, of those that ran at their default parameters.

    Raises ParameterError, which names the file, for one that is damaged.
    """
    rows = [row for path in executed for row in _rows(path)]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "default"])
    return table[table.default.astype(bool)].drop(columns="default")


def _rows(path: Path) -> list[dict[str, object]]:
    outputs = [output for cell in read_cells(path) for output in cell.get("outputs", ())]
    rows = []
    for output in outputs:
        kept = output.get("metadata", {}).get("scrapbook")
        if not isinstance(kept, dict) or kept.get("name") != ROWS:
            continue
        try:
            [text] = output["data"].values()
            found = json.loads(ast.literal_eval("".join(text)))
            complete = all(row.keys() >= {*COLUMNS, "default"} for row in found)
        except (LookupError, ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError):
            complete = False
        if not complete:
            raise ParameterError(f"{path}: the findings that it keeps cannot be read; execute the notebook again")
        rows += found
    return rows


def accept(found: pd.DataFrame) -> None:
    """Write the rows of these chapters to data/findings.csv in place of what stands there of them."""
    rest = accepted()
    table = pd.concat([rest[~rest.chapter.isin(found.chapter)], found]).sort_values("chapter", kind="stable")
    numbers = {name: table[name].map(lambda value: "" if pd.isna(value) else f"{value:.6g}") for name in NUMBERS}
    path = project_root() / "data" / "findings.csv"
    table.assign(**numbers).to_csv(path, index=False, lineterminator="\n")


def in_numbers(table: pd.DataFrame) -> list[str]:
    """Each finding's estimate with its interval, in two digits of the interval's width; without one the mean alone."""
    texts = []
    for mean, low, high in table[["mean", "low", "high"]].to_numpy(dtype=float):
        if np.isnan(mean):
            texts.append("–")
            continue
        width = high - low if np.isfinite(high - low) and high > low else abs(mean)
        digits = max(0, 1 - int(np.floor(np.log10(width)))) if width > 0 else 2
        texts.append(format(Estimate(mean, low, high), f",.{digits}f"))
    return texts


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p of a family of tests [n]; those that are nan are no tests and stay nan."""
    p, adjusted = np.asarray(p, dtype=float), np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # nan comes last
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order)))))
    return adjusted
