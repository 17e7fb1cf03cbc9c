"""What a page says of the records that it rests on."""

from collections import Counter

import pandas as pd

from task_vectors.experiments.registry import code_of
from task_vectors.records.store import Record


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
                "Processor": "; ".join(sorted({record.provenance["processor"] for record in mine})),
                "Code": _counted([code_of(record) for record in mine]),
            }
        )
    return pd.DataFrame(rows)


def _counted(words: list[str]) -> str:
    """What all have in common, or how many have what."""
    counts = Counter(words)
    return "; ".join(f"{n} {word}" if len(counts) > 1 else word for word, n in sorted(counts.items()))
