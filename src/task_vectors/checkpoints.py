"""Trainings that can be stopped: one file holds all that a training needs to go on, exact to the bit.

A step's data come from a seed of that step alone, so that nothing random need be kept: parameters, AdamW's moments and
the losses so far are all. Every file is renamed into place, so that a kill leaves whole ones; which training it belongs
to, and a digest of what it holds, stand in its header. The checkpoint before the last one is kept as well.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "previous.safetensors"


class TrainingDiverged(RuntimeError):
    """The loss, or its gradient, is no longer a number."""


class CheckpointError(RuntimeError):
    """A file of a training is damaged, or another process trains there; the message is one line that names the file."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """While inside, the folder is this process's to train in; what a killed process was still writing is removed.

    Raises CheckpointError where another living process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise CheckpointError(f"another process trains in {folder}: wait for it, or name another folder") from None
    with lock:
        for file in (*folder.glob(".*.new"), *folder.glob(".tmp*")):  # the latter are safetensors' own
            file.unlink()
        try:
            yield
        finally:
            if {file.name for file in folder.iterdir()} == {".lock"}:  # refused before anything was written
                (folder / ".lock").unlink()
                folder.rmdir()


def write_tensors(file: Path, tensors: Mapping[str, Tensor], run: str = "") -> None:
    """Write `tensors` to `file`, whole or not at all; `run`: the training that they belong to."""
    new = file.with_name(f".{file.stem}.new")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, new, {"run": run, "digest": _digest(run, tensors)})
    os.replace(new, file)


def read_tensors(file: Path, run: str | None = None) -> dict[str, Tensor]:
    """What write_tensors wrote, on the CPU.

    Raises CheckpointError for a file that is damaged, and ValueError where it belongs to another training than `run`.
    """
    try:
        with safe_open(file, "pt") as opened:
            header, tensors = opened.metadata() or {}, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{file} is damaged ({reason}): delete it") from None
    if header.get("digest") != _digest(header.get("run", ""), tensors):
        raise CheckpointError(f"{file} is damaged (its content does not give its digest): delete it")
    if run is not None and header.get("run") != run:
        raise ValueError(f"{file} belongs to another training: name another folder")
    return tensors


def _digest(run: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(run.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_checkpoint(
    folder: Path,
    run: str,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.AdamW,
    losses: list[float],
    seconds: float,
) -> None:
    """Keep in `folder` what the training `run` needs to go on; `losses` and `seconds` are those of the steps so far."""
    weights = {name: parameter.detach() for name, parameter in parameters.items()}
    moments = {
        f"{key} of {name}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }
    progress = {"losses": torch.tensor(losses, dtype=torch.float64), "seconds": torch.tensor(seconds)}
    if (folder / CHECKPOINT).is_file():
        os.replace(folder / CHECKPOINT, folder / PREVIOUS)
    write_tensors(folder / CHECKPOINT, weights | moments | progress, run)


@torch.no_grad()
def resume(
    folder: Path, run: str, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.AdamW
) -> tuple[list[float], float]:
    """Put the folder's last checkpoint, where there is one, in place: the losses and the seconds so far.

    Where the last one is damaged, training goes on from the one before, and says so. Raises CheckpointError where that
    is damaged too, and ValueError for a checkpoint of another training.
    """
    tensors, damage = None, None
    for name in (CHECKPOINT, PREVIOUS):
        if tensors is None and (folder / name).is_file():
            try:
                tensors = read_tensors(folder / name, run)
            except CheckpointError as error:
                print(error, file=sys.stderr)
                damage = error
    if tensors is None and damage:
        raise CheckpointError(f"no checkpoint in {folder} is whole: delete the folder to train anew") from damage
    if tensors is None:
        return [], 0.0
    losses, seconds = tensors.pop("losses").tolist(), tensors.pop("seconds").item()
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
        if losses:
            optimizer.state[parameter] = {key: tensors[f"{key} of {name}"].to(parameter.device) for key in MOMENTS}
    return losses, seconds
