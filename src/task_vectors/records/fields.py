"""What provenance.json must say, each field in the form in which it is written."""

import re
from collections.abc import Mapping
from datetime import datetime

from task_vectors.records.environment import DATE, PACKAGES

LONGEST = 1e9  # seconds, thirty years
COLUMN_TYPE = re.compile(r"str|bool|u?int\d+|float\d+")


def wrong_fields(provenance: Mapping[str, object]) -> list[str]:
    """The names of the fields, the seal aside, that are missing or of another form."""
    wrong = [name for name, has_form in FORMS.items() if name not in provenance or not has_form(provenance[name])]
    if wrong:
        return wrong
    tables = {name.split(".csv")[0] for name in provenance["files"] if ".csv" in name}
    return [] if provenance["columns"].keys() == tables else ["columns"]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_date(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.strptime(value, DATE))
    except ValueError:
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_columns(value: object) -> bool:
    """The column types of each table."""
    if not isinstance(value, dict) or not all(isinstance(types, dict) for types in value.values()):
        return False
    kinds = [kind for types in value.values() for kind in types.values()]
    return all(isinstance(kind, str) and COLUMN_TYPE.fullmatch(kind) for kind in kinds)


def _are_checksums(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


FORMS = {
    "experiment": _is_text,
    "version": lambda value: _is_number(value) and isinstance(value, int),
    "parameters": lambda value: isinstance(value, dict),
    "source": _is_text,
    "seconds": lambda value: _is_number(value) and 0 <= value < LONGEST,
    "date": _is_date,
    **dict.fromkeys(("commit", "processor", "python", *PACKAGES), _is_text),
    "columns": _are_columns,
    "files": _are_checksums,
}
