"""The files of a record: tables as CSV (gzip) that comes back as it was, tensors as safetensors."""

import csv
import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from task_vectors.records.scratch import scratch_folder

COLUMNS = "columns.json"  # of the tables that once() keeps


def write_results(folder: Path, results: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Write each table to <name>.csv.gz and each dict of tensors to <name>.safetensors; gives the tables' column types.

    Raises ValueError for a table that its file would not give back.
    """
    from safetensors.torch import save_file

    types = {}
    for name, result in results.items():
        if isinstance(result, pd.DataFrame):
            types[name] = _column_types(name, result)
            short = result.select_dtypes(["float32", "float16"]).columns  # their own digits would be rounded twice
            text = result.astype(dict.fromkeys(short, "float64")).to_csv(
                index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
            )
            # Without the time, so that the same table gives the same bytes.
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in result.items()}
            save_file(tensors, folder / f"{name}.safetensors")
    return types


def read_table(folder: Path, name: str, types: Mapping[str, str]) -> pd.DataFrame:
    """The table <name>.csv.gz (or .csv, as older records have it) with its column types, exact to the last bit."""
    path = folder / f"{name}.csv.gz"
    path = path if path.is_file() else path.with_suffix("")
    # An empty field is a text where texts are, and a missing number elsewhere.
    missing = {column: [""] for column, dtype in types.items() if dtype != "str"}
    written = {
        column: dtype.replace("float32", "float64").replace("float16", "float64") for column, dtype in types.items()
    }
    table = pd.read_csv(path, dtype=written, keep_default_na=False, na_values=missing, skip_blank_lines=False)
    return table.astype(dict(types))


def once(folder: Path, compute: Callable[[], Mapping[str, object]]) -> dict[str, object]:
    """The tables and dicts of tensors that compute() gives: computed, and kept in `folder`, where that is not there.

    The folder is put in place whole, so that a computation in parts goes on after the last part that is kept.
    """
    from safetensors.torch import load_file

    if not folder.is_dir():
        with scratch_folder(folder.parent) as scratch:
            new = scratch / folder.name
            results = compute()
            new.mkdir()
            (new / COLUMNS).write_text(json.dumps(write_results(new, results)), encoding="utf-8")
            new.rename(folder)
    types = json.loads((folder / COLUMNS).read_text(encoding="utf-8"))
    tensors = {file.stem: load_file(file) for file in folder.glob("*.safetensors")}
    return {name: read_table(folder, name, columns) for name, columns in types.items()} | tensors


def _column_types(name: str, table: pd.DataFrame) -> dict[str, str]:
    if table.index.names != [None]:
        raise ValueError(f"table {name!r} has {table.index.names} as its index, which is not stored: use reset_index()")
    if len(table.columns) == 0 or not table.columns.is_unique:
        raise ValueError(f"table {name!r} needs columns of different names, got {list(table.columns)}")
    types = {column: _type(table[column]) for column in table}
    if wrong := [column for column, dtype in types.items() if dtype is None]:
        raise ValueError(f"table {name!r}: columns {wrong} must be numbers, booleans, or texts with none missing")
    return types


def _type(column: pd.Series) -> str | None:
    if column.dtype.kind in "iufb" and not pd.api.types.is_extension_array_dtype(column.dtype):
        return str(column.dtype)
    return "str" if column.map(lambda value: isinstance(value, str)).all() else None


def replace_text(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    with scratch_folder(path.parent) as scratch:
        new = scratch / path.name
        new.write_text(text, encoding="utf-8")
        new.replace(path)
