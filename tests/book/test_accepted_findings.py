"""The findings of the built book are those of data/findings.csv, within a stated tolerance."""

import json
from pathlib import Path

import pytest

from task_vectors.pages.scoreboard import accepted, executed_findings, moved_findings
from task_vectors.paths import project_root

NOTEBOOKS = sorted(path.stem for path in (project_root() / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("chapter", NOTEBOOKS)
def test_no_finding_has_moved(site, chapter):
    executed: Path = project_root() / "executed" / f"{chapter}.ipynb"
    ran_with = json.loads(executed.read_text(encoding="utf-8"))["metadata"]["papermill"]["parameters"]
    if ran_with:
        pytest.skip(f"{chapter} was executed with {', '.join(ran_with)}, not at its default parameters")
    found = executed_findings([executed])
    assert moved_findings(found) == {}
    assert set(found["key"]) == set(accepted().query("chapter == @chapter")["key"])
