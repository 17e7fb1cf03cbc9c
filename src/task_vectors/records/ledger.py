"""Which records were verified, with which code: a table beside the records, written when a verification passes."""

import csv
import functools
import io
from pathlib import Path

from task_vectors.records.environment import environment
from task_vectors.records.files import replace_text
from task_vectors.records.store import Record

LEDGER = "verified.csv"
COLUMNS = ("experiment", "key", "seal", "source", "date", "processor")


def verified_on(record: Record, source: str) -> str | None:
    """The date on which the record, as it is now, passed with code of this digest; None where it has not."""
    row = _rows(_ledger(record)).get((record.experiment, record.key), {})
    return row["date"] if (row.get("seal"), row.get("source")) == (record.seal, source) else None


def note_verified(record: Record, source: str) -> None:
    """Write that the record passes with code of this digest; the first date with that code stays."""
    if verified_on(record, source):
        return
    path, here = _ledger(record), environment()
    row = (record.experiment, record.key, record.seal, source, here["date"], here["processor"])
    rows = _rows(path) | {row[:2]: dict(zip(COLUMNS, row, strict=True))}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in sorted(rows))
    replace_text(path, text.getvalue())


def _ledger(record: Record) -> Path:
    return record.folder.parents[1] / LEDGER


def _rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else {}


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> dict[tuple[str, str], dict[str, str]]:
    """changed: when the file was written last, so that it is read again when it has been."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["experiment"], row["key"]): row for row in csv.DictReader(file)}
