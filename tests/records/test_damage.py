import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trial import TRIAL

from task_vectors.records import store
from task_vectors.records.fields import FORMS
from task_vectors.records.store import (
    RecordError,
    all_records,
    find_record,
    read_record,
    recorded,
    stored,
    write_provenance,
)


def edit_table(folder):
    path = folder / "table.csv.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"1")
    return path


def remove_weights(folder):
    (folder / "weights.safetensors").unlink()
    return folder / "weights.safetensors"


def add_file(folder):
    (folder / "more.csv").write_text("x\n1\n")
    return folder / "more.csv"


def edit_provenance(folder):
    path = folder / "provenance.json"
    path.write_text(path.read_text().replace('"seconds": ', '"seconds": 1'))
    return path


def sealed_anew(folder, **changes):
    content = json.loads((folder / "provenance.json").read_text())
    content.pop("seal")
    write_provenance(folder, content | changes)
    return folder / "provenance.json"


def other_parameters(folder):
    return sealed_anew(folder, parameters={"size": 4})


def other_experiment(folder):
    return sealed_anew(folder, experiment="other")


def no_date(folder):
    return sealed_anew(folder, date="some day")


def seconds_as_text(folder):
    return sealed_anew(folder, seconds="3")


def parameters_as_list(folder):
    return sealed_anew(folder, parameters=[["size", 3]])


def endless_seconds(folder):
    return sealed_anew(folder, seconds=10**400)


def no_columns(folder):
    return sealed_anew(folder, columns={})


def column_of_no_type(folder):
    return sealed_anew(folder, columns={"table": {"x": "nonsense", "name": "str"}})


def deep_json(folder):
    (folder / "provenance.json").write_text("[" * 100_000)
    return folder / "provenance.json"


def no_commit(folder):
    return sealed_anew(folder, commit=None)


def remove_provenance(folder):
    (folder / "provenance.json").unlink()
    return folder / "provenance.json"


def break_json(folder):
    (folder / "provenance.json").write_text("{")
    return folder / "provenance.json"


DAMAGES = [
    edit_table,
    remove_weights,
    add_file,
    edit_provenance,
    other_parameters,
    other_experiment,
    no_date,
    seconds_as_text,
    parameters_as_list,
    endless_seconds,
    no_columns,
    column_of_no_type,
    deep_json,
    no_commit,
    remove_provenance,
    break_json,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_in_one_line_that_names_the_file(damage):
    path = damage(recorded(TRIAL, size=3).folder)
    with pytest.raises(RecordError) as caught:
        recorded(TRIAL, size=3)
    assert str(path) in str(caught.value)
    assert "delete the folder" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(RecordError):
        list(all_records())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda part: st.lists(part, max_size=2) | st.dictionaries(st.text(max_size=5) | st.just("table"), part, max_size=2),
    max_leaves=4,
)


HOSTILE = st.sampled_from([10**400, -1, float("nan"), {}, {"table": None}, {"table": {"x": 3}}, "2026-13-01 10:00 UTC"])


@pytest.mark.parametrize("name", [*FORMS, "seal", "more"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PLAIN | HOSTILE, sealed=st.booleans())
def test_whatever_a_provenance_says_the_record_is_read_or_refused(home, name, value, sealed):
    folder = next(iter(home.glob("trial/[!.]*")), None) or recorded(TRIAL, size=3).folder
    path = folder / "provenance.json"
    whole = path.read_text(encoding="utf-8")
    content = json.loads(whole)
    seal = content.pop("seal")
    if sealed and name != "seal":
        write_provenance(folder, content | {name: value})
    else:
        path.write_text(json.dumps(content | {"seal": seal, name: value}), encoding="utf-8")
    try:
        record = read_record(folder)
    except RecordError as error:
        message = str(error)
    else:
        message = f"{record.provenance['seconds']:.0f} {record.provenance['date']} {len(record.table('table'))}"
    finally:
        path.write_text(whole, encoding="utf-8")
    assert len(message.splitlines()) == 1


def test_a_table_whose_columns_are_of_other_types_is_refused():
    folder = recorded(TRIAL, size=3).folder
    sealed_anew(folder, columns={"table": {"x": "int64", "name": "str"}})
    with pytest.raises(RecordError, match="table 'table' cannot be read") as caught:
        read_record(folder).table("table")
    assert len(str(caught.value).splitlines()) == 1


def test_a_record_in_the_folder_of_another_experiment_is_refused(home):
    recorded(TRIAL, size=3)
    (home / "trial").rename(home / "other")
    with pytest.raises(RecordError, match="belongs to a record 'trial/"):
        list(all_records())


def test_a_record_that_moves_while_it_is_read_is_found_where_it_went(monkeypatch, home):
    record, read = recorded(TRIAL, size=3), store.read_record
    kept = home.with_name("kept")

    def moved_meanwhile(folder):
        if folder.is_relative_to(home):
            (home / "trial").rename(kept / "trial")
        return read(folder)

    kept.mkdir()
    monkeypatch.setattr(store, "read_record", moved_meanwhile)
    found = find_record(stored(home)[0], kept, home)
    assert found.folder == kept / "trial" / record.key
