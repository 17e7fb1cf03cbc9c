import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trial import TRIAL, run, verify

from task_vectors.records import scratch, store
from task_vectors.records.scratch import alone
from task_vectors.records.store import Comparison, Experiment, all_records, record_key, recorded


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


def test_a_parameter_at_its_default_is_as_one_that_is_not_given():
    first = recorded(TRIAL, size=3)
    assert not recorded(TRIAL, size=3, name="a").from_here
    assert first.parameters == {"size": 3}
    assert record_key(TRIAL, {"size": 3, "name": "a"}) == first.key != record_key(TRIAL, {"size": 3, "name": "b"})


def test_a_default_of_another_type_is_another_value():
    experiment = Experiment("trial", 1, lambda flag=False: run(int(flag)), verify)
    assert record_key(experiment, {"flag": False}) == record_key(experiment, {})
    assert record_key(experiment, {"flag": 0}) != record_key(experiment, {})


def test_the_same_table_gives_the_same_bytes(home):
    def content():
        return (recorded(TRIAL, size=3, recompute=True).folder / "table.csv.gz").read_bytes()

    first = content()
    time.sleep(1.1)  # a gzip file may hold the time, in seconds
    assert content() == first


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
    assert not home.exists()


def test_a_run_that_fails_leaves_nothing(home):
    def fail(size):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded(Experiment("trial", 1, fail, verify), size=3)
    assert not list(home.rglob("*.csv*"))
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
from task_vectors.records import scratch, store
from task_vectors.records.scratch import alone
from task_vectors.records.store import Experiment, recorded

def run(size):
    time.sleep(max(0, float(sys.argv[1]) - time.time()))  # both end at the same time
    return {"table": pd.DataFrame({"x": range(size)})}

store.source_digest = lambda experiment, parameters: "today"
experiment = Experiment("race", 1, run, lambda record: [])
print(len(recorded(experiment, size=1000, recompute=True).table("table")))
"""


def test_two_processes_that_finish_together_leave_one_whole_record(home):
    command = [sys.executable, "-c", PROCESS, str(time.time() + 6)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["1000\n", "1000\n"]
    [record] = all_records()
    assert list(record.folder.parent.iterdir()) == [record.folder]


@pytest.mark.parametrize(
    ("was", "now", "agrees"),
    [(2.0, 2.1, True), (2.0, 2.3, False), (np.inf, np.inf, True), (np.inf, 1.0, False), (1.0, np.nan, False)],
)
def test_a_comparison_is_relative_to_the_recorded_size(was, now, agrees):
    assert Comparison("x", was, now, 0.1).agrees == agrees


def trains(size, scratch):
    """Keeps a training in `scratch`, and tells whether there was one."""
    scratch.mkdir(parents=True, exist_ok=True)
    gone_on = (scratch / "checkpoint").exists()
    (scratch / "checkpoint").touch()
    return {"table": pd.DataFrame({"gone_on": [gone_on]})}


TRAINING = Experiment("trial", 1, trains, verify)


def test_scratch_is_no_parameter_and_goes_when_the_record_is_in_place(tmp_path):
    record = recorded(TRAINING, size=3)
    assert record.parameters == {"size": 3}
    assert not list(tmp_path.rglob("checkpoint"))
    assert not recorded(TRAINING, size=3, recompute=True).table("table").gone_on.item()
    with pytest.raises(ValueError, match="unexpected keyword argument 'scratch'; it takes: size"):
        recorded(TRAINING, size=3, scratch="here")


@pytest.mark.parametrize("step", ["write_results", "put"])
def test_a_training_outlives_a_record_that_cannot_be_written(monkeypatch, tmp_path, step):
    def fail(*arguments):
        raise OSError("no space left on device")

    with monkeypatch.context() as full:
        full.setattr(store, step, fail)
        with pytest.raises(OSError, match="no space"):
            recorded(TRAINING, size=3)
    key = record_key(TRAINING, {"size": 3})
    assert (tmp_path / "runs" / "scratch" / "trial" / key / "today" / "checkpoint").is_file()
    with monkeypatch.context() as edited:  # a training of other code is not gone on with
        edited.setattr(store, "source_digest", lambda *_: "tomorrow")
        edited.setattr(store, step, fail)
        with pytest.raises(OSError, match="no space"):
            recorded(TRAINING, size=3)
    assert (tmp_path / "runs" / "scratch" / "trial" / key / "tomorrow" / "checkpoint").is_file()
    assert recorded(TRAINING, size=3).table("table").gone_on.item()
    assert not list(tmp_path.rglob("checkpoint"))


KILLED = """
import os, signal, sys
from pathlib import Path
from task_vectors.records import store
from test_store import TRAINING

store.source_digest = lambda experiment, parameters: "today"
store.project_root = lambda: Path(sys.argv[1])
write = store.write_results
store.write_results = lambda *arguments: write(*arguments) and os.kill(os.getpid(), signal.SIGKILL)
store.recorded(TRAINING, size=3)
"""


def test_a_training_outlives_a_kill_before_its_record_is_in_place(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment)
    assert done.returncode == -signal.SIGKILL
    assert list(all_records()) == []
    assert recorded(TRAINING, size=3).table("table").gone_on.item()


def test_what_a_kill_left_of_a_training_goes_with_the_next_call(monkeypatch, tmp_path):
    """Its record is in place; but the training of a record that is being computed anew stays."""
    with monkeypatch.context() as killed:
        killed.setattr(store, "remove", lambda folder: None)
        key = recorded(TRAINING, size=3).key
    home = tmp_path / "runs" / "scratch" / "trial"
    assert [path.name for path in home.iterdir()] == [key]
    recorded(TRAINING, size=3)
    assert list(home.iterdir()) == []
    with monkeypatch.context() as interrupted:
        interrupted.setattr(store, "write_results", interrupt)
        with pytest.raises(KeyboardInterrupt):
            recorded(TRAINING, size=3, recompute=True)
    recorded(TRAINING, size=3)
    assert recorded(TRAINING, size=3, recompute=True).table("table").gone_on.item()
    assert list(home.iterdir()) == []


def interrupt(*_arguments):
    raise KeyboardInterrupt


def test_a_record_that_another_process_trains_for_is_waited_for(monkeypatch, tmp_path):
    """The other one ends, and its record is read."""
    key = record_key(TRAINING, {"size": 3})
    with ThreadPoolExecutor() as pool, alone(tmp_path / "runs" / "scratch" / "trial" / key):
        waiting = threading.Event()
        monkeypatch.setattr(scratch, "print", lambda *_text, **_where: waiting.set(), raising=False)
        second = pool.submit(recorded, TRAINING, size=3)
        assert waiting.wait(timeout=60)
        store._compute(TRAINING, key, {"size": 3}, tmp_path / "elsewhere")
    assert not second.result().from_here


def test_what_a_kill_left_of_writing_a_record_goes_when_it_is_read(home):
    recorded(TRIAL, size=3)
    left = home / "trial" / ".killed.scratch"
    left.mkdir()
    recorded(TRIAL, size=3)
    assert not left.exists()
