"""The records that the repository holds: each one is intact, named by what it computes, and can be verified."""

import csv
import gzip
import hashlib
import inspect

import pytest

from task_vectors.experiments.registry import EXPERIMENTS, get_experiment
from task_vectors.paths import project_root
from task_vectors.records.kept import missing
from task_vectors.records.store import LIMIT, all_records, record_key


@pytest.fixture(scope="module")
def committed():
    return project_root() / "data" / "recorded"


@pytest.fixture(scope="module")
def records(committed):
    return list(all_records(committed))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_called_as_its_records(name):
    experiment = get_experiment(name)
    assert experiment.name == name
    [record] = inspect.signature(experiment.verify).parameters
    assert record == "record"


def test_each_record_is_one_that_its_experiment_asks_for(records):
    assert len(records) >= 283
    for record in records:
        experiment = get_experiment(record.experiment)
        assert record.provenance["version"] == experiment.version
        given = {"scratch": ""} if "scratch" in inspect.signature(experiment.run).parameters else {}
        inspect.signature(experiment.run).bind(**record.parameters, **given)
        assert record_key(experiment, record.parameters) == record.key


def test_manifests_list_what_is_there(committed, records):
    listed = {
        (path.stem, *line.split()) for path in committed.glob("*.manifest") for line in path.read_text().splitlines()
    }
    assert listed == {(record.experiment, record.key, record.seal) for record in records}
    assert missing(committed) == []


def test_what_was_packed_is_what_it_was_before(committed):
    with (committed / "rewritten.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 113
    for row in rows:
        packed = (committed / row["experiment"] / row["key"] / f"{row['file']}.gz").read_bytes()
        assert hashlib.sha256(packed).hexdigest() == row["new_sha256"]
        assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == row["old_sha256"]


def test_git_can_hold_them(records):
    assert sum(record.size for record in records) / 1e6 < LIMIT
