import json
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from task_vectors import cli
from task_vectors.experiments import registry
from task_vectors.experiments.registry import code_changed, get_experiment
from task_vectors.pages.provenance import provenance_table
from task_vectors.records import store
from task_vectors.records.store import Comparison, Experiment, RecordError, all_records, recorded

VALUE = 0.1 + 0.2


def run(size, name="a"):
    table = pd.DataFrame({"x": np.arange(size) * VALUE, "name": [name] * size})
    return {"table": table, "weights": {"w": torch.arange(size, dtype=torch.float32)}}


def verify(record):
    return [Comparison("last x", record.table("table")["x"].iloc[-1], (record.parameters["size"] - 1) * VALUE, 1e-12)]


TRIAL = Experiment("trial", 1, run, verify)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Records of their own, of an experiment that is registered."""
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    monkeypatch.setitem(registry.EXPERIMENTS, "trial", f"{__name__}:TRIAL")
    for module in (store, registry):
        monkeypatch.setattr(module, "source_digest", lambda module: "today")
    return tmp_path


def test_what_was_computed_once_is_read():
    first, second = recorded(TRIAL, size=3), recorded(TRIAL, size=3)
    assert first.from_here
    assert not second.from_here
    pd.testing.assert_frame_equal(second.table("table"), run(3)["table"])
    assert torch.equal(second.tensors("weights")["w"], torch.arange(3.0))


def test_other_parameters_and_versions_are_other_records():
    keys = {recorded(TRIAL, size=3).key, recorded(TRIAL, size=4).key, recorded(TRIAL, size=3, name="b").key}
    newer = Experiment("trial", 2, run, verify)
    assert len(keys | {recorded(newer, size=3).key}) == 4
    assert len(list(all_records())) == 4


def test_recompute_replaces_what_is_there():
    recorded(TRIAL, size=3)
    assert recorded(TRIAL, size=3, recompute=True).from_here
    assert len(list(all_records())) == 1


ROWS = st.tuples(
    st.floats(),
    st.floats(width=32),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    | st.sampled_from(["", "007", "NA", "nan", "True", "\r"]),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
)


@given(st.lists(ROWS))
def test_tables_come_back_to_the_last_bit(rows):
    types = {"x": "float64", "single": "float32", "text": "str", "count": "int64", "flag": "bool"}
    table = pd.DataFrame(rows, columns=list(types)).astype(types)
    record = recorded(Experiment("tables", 1, lambda: {"table": table}, verify), recompute=True)
    pd.testing.assert_frame_equal(record.table("table"), table, check_exact=True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"when": pd.to_datetime(["2026-01-01"])}), "columns ['when'] must be numbers"),
        (pd.DataFrame({"text": ["a", None]}), "with none missing"),
        (pd.DataFrame({"x": [1]}).set_index("x"), "use reset_index()"),
        (pd.DataFrame(), "needs columns of different names, got []"),
    ],
)
def test_a_table_that_a_file_would_not_give_back_is_refused(home, table, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recorded(Experiment("tables", 1, lambda: {"table": table}, verify))
    assert not list(home.rglob("*.json"))


def test_tensors_come_back_whether_or_not_they_share_memory():
    whole = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).requires_grad_()  # [2, 3]
    tensors = {"whole": whole, "turned": whole.T, "part": whole[:1]}
    record = recorded(Experiment("views", 1, lambda: {"w": tensors}, verify))
    back = record.tensors("w")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    assert {tensor.dtype for tensor in back.values()} == {torch.bfloat16}


def test_a_record_from_before_column_types_were_kept_is_read():
    path = recorded(TRIAL, size=3).folder / "provenance.json"
    content = json.loads(path.read_text())
    del content["columns"], content["seal"]
    path.write_text(json.dumps(content | {"seal": store._digest(store._canonical(content))}))
    pd.testing.assert_frame_equal(recorded(TRIAL, size=3).table("table"), run(3)["table"], check_exact=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"width": 3}, "experiment 'trial': missing a required argument: 'size'; it takes: size, name"),
        ({"size": 3, "depth": 1}, "unexpected keyword argument 'depth'; it takes: size, name"),
        ({"size": torch.tensor(3)}, "parameter 'size' must be a finite number"),
        ({"size": 3, "name": float("nan")}, "parameter 'name' must be a finite number"),
    ],
)
def test_parameters_are_checked_before_anything_runs(home, parameters, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        recorded(TRIAL, **parameters)
    assert "\n" not in str(caught.value)
    assert list(home.iterdir()) == []


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
    content["seal"] = store._digest(store._canonical(content))
    path.write_text(json.dumps(content))
    return path


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
    edit_parameters_with_a_new_seal,
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


def test_a_run_that_fails_leaves_nothing(home):
    def fail(size):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded(Experiment("trial", 1, fail, verify), size=3)
    assert not list(home.rglob("*.csv"))
    assert recorded(TRIAL, size=3).from_here


def test_two_that_compute_the_same_do_not_break_each_other():
    def run_beside_another(size):
        recorded(TRIAL, size=size)
        return run(size)

    # The one that finished first stays, for its caller is reading it.
    assert not recorded(Experiment("trial", 1, run_beside_another, verify), size=3).from_here
    assert len(list(all_records())) == 1


PROCESS = """
import sys, time
import pandas as pd
from task_vectors.records import store
from task_vectors.records.store import Experiment, recorded

def run(size):
    time.sleep(max(0, float(sys.argv[1]) - time.time()))  # both end at the same time
    return {"table": pd.DataFrame({"x": range(size)})}

store.source_digest = lambda module: "today"
experiment = Experiment("race", 1, run, lambda record: [])
print(len(recorded(experiment, size=1000, recompute=True).table("table")))
"""


def test_two_processes_that_finish_together_leave_one_whole_record(home):
    command = [sys.executable, "-c", PROCESS, str(time.time() + 6)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["1000\n", "1000\n"]
    [record] = all_records()
    assert list(record.folder.parent.iterdir()) == [record.folder]


def test_code_that_changed_since_is_seen(monkeypatch):
    record = recorded(TRIAL, size=3)
    assert not code_changed(record)
    monkeypatch.setattr(registry, "source_digest", lambda module: "tomorrow")
    assert code_changed(record)


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
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)

    def digest_after(name, text):
        (tmp_path / "src" / "task_vectors" / name).write_text(text)
        store.source_digest.cache_clear()
        return store.source_digest("task_vectors.a")

    store.source_digest.cache_clear()
    before = store.source_digest("task_vectors.a")
    assert digest_after("c.py", "y = 2") == before
    assert digest_after("records.py", "z = 2") == before
    assert digest_after("b.py", "x = 1\r\n") != before
    assert digest_after("b.py", "x = 1") == before
    assert digest_after("b.py", "x = 2") != before


def test_kept_records_move_to_data(monkeypatch, home):
    monkeypatch.delenv("TASK_VECTORS_RECORDS")
    monkeypatch.setattr(store, "project_root", lambda: home)
    computed = recorded(TRIAL, size=3)
    assert computed.folder.is_relative_to(home / "runs" / "recorded")
    assert store.keep_records() == [home / "data" / "recorded" / "trial" / computed.key]
    assert recorded(TRIAL, size=3).folder.is_relative_to(home / "data" / "recorded")
    assert recorded(TRIAL, size=3, recompute=True).folder.is_relative_to(home / "runs" / "recorded")


def test_records_of_a_named_folder_can_be_kept(monkeypatch, home):
    monkeypatch.setattr(store, "project_root", lambda: home.parent / "project")
    key = recorded(TRIAL, size=3).key
    assert store.keep_records() == [home.parent / "project" / "data" / "recorded" / "trial" / key]
    assert list(all_records()) == []


@pytest.mark.parametrize(
    ("was", "now", "agrees"),
    [(2.0, 2.1, True), (2.0, 2.3, False), (np.inf, np.inf, True), (np.inf, 1.0, False), (1.0, np.nan, False)],
)
def test_a_comparison_is_relative_to_the_recorded_size(was, now, agrees):
    assert Comparison("x", was, now, 0.1).agrees == agrees


def test_the_closing_table_sums_an_experiment_up(monkeypatch):
    mine = [recorded(TRIAL, size=size) for size in (3, 4)]
    for record, seconds, date in zip(mine, (60, 30), ("2026-01-03 10:00 UTC", "2026-01-01 10:00 UTC"), strict=True):
        record.provenance.update(seconds=seconds, date=date, processor=f"a processor of {date[:10]}")
    monkeypatch.setattr(registry, "source_digest", lambda module: "tomorrow")
    [row] = provenance_table(mine).to_dict("records")
    assert (row["Records"], row["Minutes"], row["Code changed since"]) == (2, 1.5, 2)
    assert row["Computed"] == "2026-01-01 to 2026-01-03"
    assert row["Processor"] == "a processor of 2026-01-01; a processor of 2026-01-03"
    assert len(provenance_table([])) == 0


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


def test_verify_goes_on_after_an_experiment_that_no_longer_runs(monkeypatch, capsys):
    def fail(record):
        raise KeyError("gone")

    checks = {3: verify, 4: fail, 5: lambda record: []}
    for size in checks:
        recorded(TRIAL, size=size)
    chosen = Experiment("trial", 1, run, lambda record: checks[record.parameters["size"]](record))
    monkeypatch.setattr(sys.modules[__name__], "TRIAL", chosen)
    assert exit_code("verify") == 1
    out = capsys.readouterr().out
    assert "KeyError: 'gone'" in out
    assert "compared nothing" in out
    assert "last x: recorded" in out


def test_a_verify_that_compares_nothing_is_a_failure(monkeypatch):
    recorded(TRIAL, size=5)
    monkeypatch.setattr(sys.modules[__name__], "TRIAL", Experiment("trial", 1, run, lambda record: []))
    assert exit_code("verify") == 1


def test_verify_refuses_what_is_damaged_or_unknown(capsys):
    edit_table(recorded(TRIAL, size=3).folder)
    assert exit_code("verify") == 2
    assert "table.csv has checksum" in capsys.readouterr().err
    assert exit_code("verify", "nothing") == 2


def test_an_experiment_that_is_not_registered_is_named():
    with pytest.raises(RecordError, match="no experiment 'foreign'"):
        get_experiment("foreign")


def test_the_list_shows_every_record(capsys):
    recorded(TRIAL, size=3, name="b")
    assert exit_code("records") == 0
    assert "size=3 name=b" in capsys.readouterr().out


def test_the_command_line_needs_no_torch():
    code = "import sys; from task_vectors import cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
