"""The files of a record: tables as CSV that comes back as it was, tensors as safetensors."""

import csv
from collections.abc import Mapping
from pathlib import Path

import pandas as pd


def write_results(folder: Path, results: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Write each table to <name>.csv and each dict of tensors to <name>.safetensors; gives the tables' column types.

    Raises ValueError for a table that its file would not give back.
    """
    from safetensors.torch import save_file

    types = {}
    for name, result in results.items():
        if isinstance(result, pd.DataFrame):
            types[name] = _column_types(name, result)
            short = result.select_dtypes(["float32", "float16"]).columns  # their own digits would be rounded twice
            result.astype(dict.fromkeys(short, "float64")).to_csv(
                folder / f"{name}.csv", index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
            )
        else:
            tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in result.items()}
            save_file(tensors, folder / f"{name}.safetensors")
    return types


def read_table(path: Path, types: Mapping[str, str] | None) -> pd.DataFrame:
    """The table of a CSV file with its column types, exact to the last bit; with None, types as the file suggests."""
    if types is None:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    # An empty field is a text where texts are, and a missing number elsewhere.
    missing = {column: [""] for column, dtype in types.items() if dtype != "str"}
    written = {
        column: dtype.replace("float32", "float64").replace("float16", "float64") for column, dtype in types.items()
    }
    table = pd.read_csv(path, dtype=written, keep_default_na=False, na_values=missing, skip_blank_lines=False)
    return table.astype(dict(types))


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
