import json
import subprocess
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from task_vectors import cli, records
from task_vectors.records import Comparison, Experiment, RecordError, all_records, recorded

VALUE = 0.1 + 0.2


def run(size, name="a"):
    table = pd.DataFrame({"x": np.arange(size) * VALUE, "name": [name] * size})
    return {"table": table, "weights": {"w": torch.arange(size, dtype=torch.float32)}}


def verify(record):
    return [Comparison("last x", record.table("table")["x"].iloc[-1], (record.parameters["size"] - 1) * VALUE, 1e-12)]


TRIAL = Experiment("trial", 1, "task_vectors.fake_trials:TRIAL", run, verify)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Records of their own, and a module of task_vectors that a record can name."""
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    module = ModuleType("task_vectors.fake_trials")
    module.TRIAL = TRIAL
    monkeypatch.setitem(sys.modules, "task_vectors.fake_trials", module)
    monkeypatch.setattr(records, "source_digest", lambda module: "today")
    return tmp_path


def test_what_was_computed_once_is_read():
    first, second = recorded(TRIAL, size=3), recorded(TRIAL, size=3)
    assert first.from_here
    assert not second.from_here
    pd.testing.assert_frame_equal(second.table("table"), run(3)["table"])
    assert torch.equal(second.tensors("weights")["w"], torch.arange(3.0))


def test_other_parameters_and_versions_are_other_records():
    keys = {recorded(TRIAL, size=3).key, recorded(TRIAL, size=4).key, recorded(TRIAL, size=3, name="b").key}
    newer = Experiment("trial", 2, TRIAL.constant, run, verify)
    assert len(keys | {recorded(newer, size=3).key}) == 4
    assert len(list(all_records())) == 4


def test_recompute_replaces_what_is_there():
    recorded(TRIAL, size=3)
    assert recorded(TRIAL, size=3, recompute=True).from_here
    assert len(list(all_records())) == 1


@given(
    st.lists(st.floats(allow_nan=False, width=64), min_size=1), st.lists(st.text("abc ,\"'é", min_size=1), min_size=1)
)
def test_tables_come_back_as_they_were(numbers, texts):
    size = min(len(numbers), len(texts))
    table = pd.DataFrame({"x": numbers[:size], "text": texts[:size], "count": range(size)})
    record = recorded(Experiment("tables", 1, TRIAL.constant, lambda: {"table": table}, verify), recompute=True)
    pd.testing.assert_frame_equal(record.table("table"), table)


def edit_table(folder):
    path = folder / "table.csv"
    path.write_text(path.read_text().replace("0.0,", "0.5,", 1))
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


def edit_parameters_with_a_new_seal(folder):
    path = folder / "provenance.json"
    content = json.loads(path.read_text())
    content["parameters"]["size"] = 4
    content.pop("seal")
    content["seal"] = records._digest(records._canonical(content))
    path.write_text(json.dumps(content))
    return path


def break_json(folder):
    (folder / "provenance.json").write_text("{")
    return folder / "provenance.json"


DAMAGES = [edit_table, remove_weights, add_file, edit_provenance, edit_parameters_with_a_new_seal, break_json]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_in_one_line_that_names_the_file(damage):
    path = damage(recorded(TRIAL, size=3).folder)
    with pytest.raises(RecordError) as caught:
        recorded(TRIAL, size=3)
    assert str(path) in str(caught.value)
    assert "delete the folder" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_run_that_fails_leaves_nothing(home):
    def fail(size):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded(Experiment("trial", 1, TRIAL.constant, fail, verify), size=3)
    assert not list(home.rglob("*.csv"))
    assert recorded(TRIAL, size=3).from_here


def test_two_that_compute_the_same_do_not_break_each_other():
    def run_beside_another(size):
        recorded(TRIAL, size=size)
        return run(size)

    assert recorded(Experiment("trial", 1, TRIAL.constant, run_beside_another, verify), size=3).from_here
    assert not recorded(TRIAL, size=3).from_here


def test_code_that_changed_since_is_seen(monkeypatch):
    record = recorded(TRIAL, size=3)
    assert not record.code_changed
    monkeypatch.setattr(records, "source_digest", lambda module: "tomorrow")
    assert record.code_changed


def test_the_digest_follows_the_modules_that_an_experiment_rests_on(monkeypatch, tmp_path):
    monkeypatch.undo()
    files = {
        "a.py": "from task_vectors import b",
        "b.py": "x = 1",
        "c.py": "y = 1",
        "records.py": "z = 1",
        "__init__.py": "",
    }
    for name, text in files.items():
        (tmp_path / "src" / "task_vectors" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / "task_vectors" / name).write_text(text)
    monkeypatch.setattr(records, "project_root", lambda: tmp_path)

    def digest_after(name, text):
        (tmp_path / "src" / "task_vectors" / name).write_text(text)
        return records.source_digest("task_vectors.a")

    before = records.source_digest("task_vectors.a")
    assert digest_after("c.py", "y = 2") == before
    assert digest_after("records.py", "z = 2") == before
    assert digest_after("b.py", "x = 1\r\n") != before
    assert digest_after("b.py", "x = 1") == before
    assert digest_after("b.py", "x = 2") != before


def test_kept_records_move_to_data(monkeypatch, home):
    monkeypatch.delenv("TASK_VECTORS_RECORDS")
    monkeypatch.setattr(records, "project_root", lambda: home)
    computed = recorded(TRIAL, size=3)
    assert computed.folder.is_relative_to(home / "runs" / "recorded")
    assert records.keep_records() == [home / "data" / "recorded" / "trial" / computed.key]
    assert recorded(TRIAL, size=3).folder.is_relative_to(home / "data" / "recorded")
    assert recorded(TRIAL, size=3, recompute=True).folder.is_relative_to(home / "runs" / "recorded")


def exit_code(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def test_verify_tells_what_differs(monkeypatch, capsys):
    recorded(TRIAL, size=3)
    assert exit_code("verify") == 0
    assert "1 records are intact; 1 to compute in part" in capsys.readouterr().out
    assert exit_code("verify", "--changed") == 0
    assert "0 to compute" in capsys.readouterr().out
    monkeypatch.setattr(sys.modules[__name__], "VALUE", 0.5)
    assert exit_code("verify") == 1
    assert "DIFFERS trial/" in capsys.readouterr().out


def test_verify_refuses_what_is_damaged_or_unknown(capsys):
    edit_table(recorded(TRIAL, size=3).folder)
    assert exit_code("verify") == 2
    assert "table.csv has checksum" in capsys.readouterr().err
    assert exit_code("verify", "nothing") == 2


def test_verify_imports_only_our_own_modules():
    foreign = Experiment("foreign", 1, "subprocess:run", run, verify)
    with pytest.raises(RecordError, match="no module of task_vectors"):
        recorded(foreign, size=3).load_experiment()


def test_the_list_shows_every_record(capsys):
    recorded(TRIAL, size=3, name="b")
    assert exit_code("records") == 0
    assert "size=3 name=b" in capsys.readouterr().out


def test_the_command_line_needs_no_torch():
    code = "import sys; from task_vectors import cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
