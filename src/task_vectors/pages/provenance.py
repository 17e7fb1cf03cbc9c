"""What a page says of the records that it rests on."""

import html
import json
from collections import Counter
from collections.abc import Iterator, Mapping

import pandas as pd

from task_vectors.experiments.registry import code_of, get_experiment
from task_vectors.records.environment import PACKAGES
from task_vectors.records.store import Record

LONGEST = 48  # characters of a parameter's value that are shown


def provenance_table(records: list[Record]) -> pd.DataFrame:
    """One line an experiment: how many records, when, on what, for how long, and with which code."""
    rows = []
    for name in dict.fromkeys(record.experiment for record in records):
        mine = [record for record in records if record.experiment == name]
        days = sorted(record.provenance["date"][:10] for record in mine)
        rows.append(
            {
                "Experiment": name,
                "Records": len(mine),
                "Computed": " to ".join(sorted({days[0], days[-1]})),
                "Minutes": round(sum(record.provenance["seconds"] for record in mine) / 60, 1),
                "Processor": _all_of(mine, "processor"),
                "Code": counted([code_of(record) for record in mine]),
            }
        )
    return pd.DataFrame(rows)


def counted(words: list[str]) -> str:
    """What all have in common, or how many have what."""
    counts = Counter(words)
    return "; ".join(f"{n} {word}" if len(counts) > 1 else word for word, n in sorted(counts.items()))


def record_lists(records: list[Record]) -> str:
    """HTML that unfolds, for each experiment: what its records share, and a line for each with what differs."""
    parts = []
    for name in dict.fromkeys(record.experiment for record in records):
        mine = [record for record in records if record.experiment == name]
        minutes = sum(record.provenance["seconds"] for record in mine) / 60
        about = (get_experiment(name).run.__doc__ or "").strip().partition("\n")[0]
        heading = f"<b>{name}</b>: {len(mine)} record{'s' * (len(mine) > 1)}, {minutes:.0f} minutes"
        notes = f"<p>{html.escape(about)} {html.escape(_shared(mine))}</p>"
        table = record_table(mine).to_html(index=False, border=0, col_space={"Parameters": "24em"})
        parts.append(
            f'<details><summary>{heading}</summary>{notes}<div style="overflow-x: auto">{table}</div></details>'
        )
    return "\n".join(parts)


def record_table(records: list[Record]) -> pd.DataFrame:
    """One line a record of one experiment: the parameters that not all have in common, and where it comes from."""
    values, differing = _values(records)
    rows = [
        {
            "Parameters": ", ".join(f"{name} = {mine[name]}" for name in differing if name in mine) or "as above",
            "Computed": record.provenance["date"][:10],
            "Seconds": record.provenance["seconds"],
            "Commit": record.provenance["commit"].replace(" with uncommitted changes", " +"),
            "Code": code_of(record),
            "kB": round(record.size / 1e3, 1),
            "Record": record.key,
            "Seal": record.seal[:12],
        }
        for record, mine in zip(records, values, strict=True)
    ]
    return pd.DataFrame(rows).sort_values("Parameters", ignore_index=True)


def _shared(records: list[Record]) -> str:
    """What all records of an experiment have in common, and on which processors and versions they were computed."""
    values, differing = _values(records)
    common = ", ".join(f"{name} = {value}" for name, value in values[0].items() if name not in differing) or "none"
    versions = ", ".join(f"{package} {_all_of(records, package)}" for package in ("python", *PACKAGES))
    return f"Shared parameters: {common}. Computed on {_all_of(records, 'processor')}, with {versions}."


def _values(records: list[Record]) -> tuple[list[dict[str, str]], list[str]]:
    """The parameters of each record as text, and the names of those that not all have in common."""
    values = [dict(_flat(record.parameters)) for record in records]
    names = dict.fromkeys(name for mine in values for name in mine)
    return values, [name for name in names if len({mine.get(name) for mine in values}) > 1]


def _flat(parameters: Mapping[str, object], outer: str = "") -> Iterator[tuple[str, str]]:
    """Names, with dots for fields of fields, and values in few words."""
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{outer}{name}.")
        else:
            yield outer + name, _short(value)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and len(value) > 2 and isinstance(first := value[0], int):
        text = f"{first} to {value[-1]}" if value == list(range(first, first + len(value))) else text
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _all_of(records: list[Record], fact: str) -> str:
    return "; ".join(sorted({record.provenance[fact] for record in records}))
