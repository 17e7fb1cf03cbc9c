"""Files of a training come back as they were or are refused, and one process trains in a folder at a time."""

import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from task_vectors.checkpoints import (
    CHECKPOINT,
    PREVIOUS,
    CheckpointError,
    claimed,
    read_tensors,
    resume,
    save_checkpoint,
    write_tensors,
)

TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.tensor(1.5),
    "c": torch.arange(4).to(torch.bfloat16),
    "d": torch.arange(6).view(2, 3).T,
}


def damaged(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def test_tensors_come_back_as_they_were(tmp_path):
    write_tensors(tmp_path / "file.safetensors", TENSORS, "mine")
    found = read_tensors(tmp_path / "file.safetensors", "mine")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in TENSORS.items())
    assert [file.name for file in tmp_path.iterdir()] == ["file.safetensors"]
    with pytest.raises(ValueError, match="another training"):
        read_tensors(tmp_path / "file.safetensors", "yours")


@given(st.data())
def test_any_damage_is_refused_in_one_line(tmp_path_factory, data):
    """A bit of the header or of the numbers, or a file that ends too early."""
    file = tmp_path_factory.mktemp("damage") / "file.safetensors"
    write_tensors(file, TENSORS, "trial")
    content = file.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    harmed = damaged(content, place, data.draw(st.integers(0, 7))) if data.draw(st.booleans()) else content[:place]
    file.write_bytes(harmed)
    with pytest.raises((CheckpointError, ValueError), match=re.escape(str(file))) as caught:
        read_tensors(file, "trial")
    assert len(str(caught.value).splitlines()) == 1


def training(folder, steps):
    """AdamW on three numbers, from where the folder is; the parameter and the losses."""
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    losses, _ = resume(folder, "trial", {"w": parameter}, optimizer)
    while len(losses) < steps:
        loss = (parameter - len(losses)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        save_checkpoint(folder, "trial", {"w": parameter}, optimizer, losses, 0.0)
    return parameter.detach(), losses


@pytest.mark.parametrize("harm", ["bit", "truncated", "empty", "gone"])
def test_a_damaged_checkpoint_costs_one_interval(harm, tmp_path, capsys):
    for name in ("whole", "harmed"):
        (tmp_path / name).mkdir()
    whole = training(tmp_path / "whole", 8)
    training(tmp_path / "harmed", 5)
    file = tmp_path / "harmed" / CHECKPOINT
    content = file.read_bytes()
    harmed = {"bit": damaged(content, len(content) - 3, 2), "truncated": content[:-9], "empty": b""}
    file.write_bytes(harmed[harm]) if harm in harmed else file.unlink()
    found = training(tmp_path / "harmed", 8)
    assert torch.equal(found[0], whole[0])
    assert found[1] == whole[1]
    assert (CHECKPOINT in capsys.readouterr().err) == (harm != "gone")


def test_two_damaged_checkpoints_are_refused(tmp_path):
    training(tmp_path, 3)
    for name in (CHECKPOINT, PREVIOUS):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="delete the folder to train anew"):
        training(tmp_path, 4)


HOLDER = """
import sys, time
from pathlib import Path
from task_vectors.checkpoints import claimed
with claimed(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_one_process_trains_in_a_folder_until_it_dies(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(CheckpointError, match="another process trains in"), claimed(tmp_path):
            pass
        left = [tmp_path / ".file.new", tmp_path / ".tmp4kB82i"]
        for file in left:
            file.write_bytes(b"half")
        holder.kill()
        holder.wait()
    with claimed(tmp_path):
        assert not any(file.exists() for file in left)
    assert not tmp_path.exists()  # nothing was trained
