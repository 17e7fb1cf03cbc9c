"""What a page says of the records that it rests on."""

import pandas as pd

from task_vectors.experiments.registry import code_changed
from task_vectors.records.store import Record


def provenance_table(records: list[Record]) -> pd.DataFrame:
    """One line an experiment: how many records, when, on what, for how long, and whether its code has changed since."""
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
                "Code changed since": sum(code_changed(record) for record in mine),
            }
        )
    return pd.DataFrame(rows)
