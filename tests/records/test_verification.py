"""`task-vectors verify` and `records`: what they say and with which code they end; the ledger; what pages say of it."""

import subprocess
import sys

import pytest
import trial
from trial import TRIAL, run, set_digest, verify

from task_vectors import cli
from task_vectors.experiments import registry
from task_vectors.experiments.registry import CHANGED, code_of, get_experiment
from task_vectors.pages.provenance import provenance_table
from task_vectors.records import kept, ledger, store
from task_vectors.records.store import Experiment, RecordError, all_records, recorded, write_provenance


@pytest.fixture
def called(capsys):
    """Exit code and output of the command."""

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        code = caught.value.code
        out, err = capsys.readouterr()
        if isinstance(code, str):  # printed, and 1
            return 1, out + err + code
        return code, out + err

    return call


def test_verify_tells_what_differs(monkeypatch, called):
    recorded(TRIAL, size=3)
    code, out = called("verify")
    assert code == 0
    assert "1 records are intact; 1 to compute in part" in out
    monkeypatch.setattr(trial, "VALUE", 0.5)
    code, out = called("verify")
    assert code == 1
    assert "DIFFERS trial/" in out


def test_only_what_is_not_known_to_fit_todays_code_is_due(monkeypatch, called):
    recorded(TRIAL, size=3)
    nothing = (0, "1 records are intact; none to compute in part\n")
    assert called("verify", "--changed") == nothing
    set_digest(monkeypatch, "tomorrow")
    assert "1 to compute" in called("verify", "--changed")[1]
    assert called("verify", "--changed") == nothing
    set_digest(monkeypatch, "the day after")
    monkeypatch.setattr(trial, "VALUE", 0.5)
    assert called("verify", "--changed")[0] == 1
    assert called("verify", "--changed")[0] == 1  # what differs stays due
    set_digest(monkeypatch, "tomorrow")
    assert called("verify", "--changed") == nothing


def test_what_was_sealed_anew_is_due_again(monkeypatch, called):
    record = recorded(TRIAL, size=3)
    set_digest(monkeypatch, "tomorrow")
    called("verify")
    write_provenance(record.folder, record.provenance | {"seconds": 1.0})
    assert "1 to compute" in called("verify", "--changed")[1]


def test_code_is_told_in_words(monkeypatch, called, home):
    record = recorded(TRIAL, size=3)
    assert code_of(record) == "computed with this code"
    set_digest(monkeypatch, "tomorrow")
    assert code_of(record) == CHANGED
    monkeypatch.setattr(ledger, "environment", lambda: {"date": "2026-01-03 10:00 UTC", "processor": "abacus"})
    called("verify")
    assert code_of(record) == "verified with this code on 2026-01-03"
    monkeypatch.setattr(ledger, "environment", lambda: {"date": "2026-02-03 10:00 UTC", "processor": "abacus"})
    before = (home / "verified.csv").read_text()
    called("verify")
    assert (home / "verified.csv").read_text() == before  # the same code again: nothing new to write down
    assert "verified with this code on 2026-01-03" in called("records")[1]


def test_verify_goes_on_after_an_experiment_that_no_longer_runs(monkeypatch, called):
    def fail(record):
        raise KeyError("gone")

    checks = {3: verify, 4: fail, 5: lambda record: []}
    for size in checks:
        recorded(TRIAL, size=size)
    chosen = Experiment("trial", 1, run, lambda record: checks[record.parameters["size"]](record))
    monkeypatch.setattr(trial, "TRIAL", chosen)
    code, out = called("verify")
    assert code == 1
    assert "KeyError: 'gone'" in out
    assert "compared nothing" in out
    assert "last x: recorded" in out


def test_a_verify_that_compares_nothing_is_a_failure(monkeypatch, called):
    recorded(TRIAL, size=5)
    monkeypatch.setattr(trial, "TRIAL", Experiment("trial", 1, run, lambda record: []))
    assert called("verify")[0] == 1


def unknown_experiment(monkeypatch):
    monkeypatch.delitem(registry.EXPERIMENTS, "trial")
    return "RecordError: there is no experiment 'trial'"


def experiment_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(registry.EXPERIMENTS, "trial", "task_vectors.experiments.nowhere:TRIAL")
    return "ModuleNotFoundError"


def another_version(monkeypatch):
    monkeypatch.setattr(trial, "TRIAL", Experiment("trial", 2, run, verify))
    return "is of version 1, and the experiment's is 2"


@pytest.mark.parametrize("change", [unknown_experiment, experiment_that_cannot_be_imported, another_version])
@pytest.mark.parametrize("option", [[], ["--changed"]])
def test_what_cannot_be_verified_fails_and_hides_no_other(monkeypatch, called, change, option):
    monkeypatch.setitem(registry.EXPERIMENTS, "other", "trial:OTHER")
    monkeypatch.setattr(trial, "OTHER", other := Experiment("other", 1, run, verify), raising=False)
    for experiment in (TRIAL, other):
        recorded(experiment, size=3)
    set_digest(monkeypatch, "tomorrow")
    reason = change(monkeypatch)
    code, out = called("verify", *option)
    assert code == 1
    [failed] = [line for line in out.splitlines() if line.startswith("FAILED")]
    assert "trial/" in failed
    assert reason in failed
    assert any(line.startswith("ok      other/") for line in out.splitlines())
    assert "other " in called("records")[1]


def test_verify_names_what_is_damaged_and_goes_on(called):
    damaged, _ = recorded(TRIAL, size=3), recorded(TRIAL, size=4)
    (damaged.folder / "table.csv.gz").write_bytes(b"")
    code, out = called("verify")
    assert code == 1
    assert "table.csv.gz has checksum" in out
    assert out.count("ok ") == 1
    code, out = called("records")
    assert code == 1
    assert "table.csv.gz has checksum" in out
    assert "size=4" in out


@pytest.mark.parametrize("arguments", [["verify"], ["verify", "--changed"], ["verify", "trial"]])
def test_no_records_are_a_failure(called, arguments):
    code, out = called(*arguments)
    assert code == 1
    assert "no records" in out


def test_records_of_no_experiment_are_a_failure(called):
    recorded(TRIAL, size=3)
    code, out = called("verify", "nothing")
    assert code == 1
    assert "no records of 'nothing'; there are: trial" in out


def test_a_record_that_the_manifest_lists_must_be_there(monkeypatch, called, tmp_path):
    monkeypatch.delenv("TASK_VECTORS_RECORDS")
    monkeypatch.setattr(cli, "project_root", lambda: tmp_path)
    for size in (3, 4):
        recorded(TRIAL, size=size)
    code, out = called("records", "--keep", "--allow-dirty")
    assert code == 0
    assert out.count("kept data/recorded/trial/") == 2
    assert called("verify")[0] == 0
    folder = next((tmp_path / "data" / "recorded" / "trial").iterdir())
    folder.rename(tmp_path / "elsewhere")
    code, out = called("verify")
    assert code == 1
    assert f"FAILED  trial/{folder.name} is listed in its manifest, and missing" in out


@pytest.mark.parametrize("content", [b"one\n", b"a b c\n", b"\xff\xfe a\n"])
def test_a_manifest_that_is_damaged_is_named_and_hides_no_record(monkeypatch, called, tmp_path, content):
    monkeypatch.delenv("TASK_VECTORS_RECORDS")
    monkeypatch.setattr(cli, "project_root", lambda: tmp_path)
    recorded(TRIAL, size=3)
    called("records", "--keep", "--allow-dirty")
    manifest = tmp_path / "data/recorded/trial.manifest"
    manifest.write_bytes(content)
    for command in ("verify", "records"):
        code, out = called(command)
        assert code == 1
        assert f"{manifest} is damaged" in out
        assert "trial" in out.splitlines()[1]


def test_what_shall_not_be_kept_is_one_line(monkeypatch, called):
    monkeypatch.setattr(kept, "read_record", lambda folder: store.read_record(folder))
    record = recorded(TRIAL, size=3)
    write_provenance(record.folder, record.provenance | {"commit": "abc1234 with uncommitted changes"})
    code, out = called("records", "--keep")
    assert code == 2
    assert out.count("\n") == 1
    assert "--allow-dirty" in out


def test_an_experiment_that_is_not_registered_is_named():
    with pytest.raises(RecordError, match="no experiment 'foreign'"):
        get_experiment("foreign")


def test_the_list_shows_every_record(called):
    recorded(TRIAL, size=3, name="b")
    code, out = called("records")
    assert code == 0
    assert "size=3 name=b" in out


def test_the_closing_table_sums_an_experiment_up(monkeypatch, called):
    mine = [recorded(TRIAL, size=size) for size in (3, 4)]
    set_digest(monkeypatch, "tomorrow")
    called("verify")
    [again] = [recorded(TRIAL, size=3)]
    for record, seconds, date in zip(mine, (60, 30), ("2026-01-03 10:00 UTC", "2026-01-01 10:00 UTC"), strict=True):
        record.provenance.update(seconds=seconds, date=date, processor=f"a processor of {date[:10]}")
    [row] = provenance_table(mine).to_dict("records")
    assert (row["Records"], row["Minutes"], row["Code"]) == (2, 1.5, CHANGED)  # what was edited was never verified
    assert row["Computed"] == "2026-01-01 to 2026-01-03"
    assert row["Processor"] == "a processor of 2026-01-01; a processor of 2026-01-03"
    [row] = provenance_table([again, mine[0]]).to_dict("records")
    assert row["Code"].startswith("1 code changed since; 1 verified with this code on 20")
    assert len(provenance_table([])) == 0
    assert len(list(all_records())) == 2


def test_the_command_line_needs_no_torch():
    code = "import sys; from task_vectors import cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
