"""Trainings that can be stopped: one file holds all that a training needs to go on, exact to the bit.

A step's data come from a seed of that step alone, so that nothing random need be kept: parameters, AdamW's moments and
the losses so far are all. Every file is renamed into place, so that a kill leaves whole ones; which training it belongs
to stands in its header.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW
CHECKPOINT = "checkpoint.safetensors"


class TrainingDiverged(RuntimeError):
    """The loss, or its gradient, is no longer a number."""


def write_tensors(file: Path, tensors: Mapping[str, Tensor], run: str = "") -> None:
    """Write `tensors` to `file`, whole or not at all; `run`: the training that they belong to."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), file.with_suffix(".new"), {"run": run})
    os.replace(file.with_suffix(".new"), file)


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
    write_tensors(folder / CHECKPOINT, weights | moments | progress, run)


@torch.no_grad()
def resume(
    folder: Path, run: str, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.AdamW
) -> tuple[list[float], float]:
    """Put the folder's checkpoint, where there is one, in place: the losses and the seconds so far.

    Raises ValueError where it belongs to another training.
    """
    if not (file := folder / CHECKPOINT).is_file():
        return [], 0.0
    if safe_open(file, "pt").metadata()["run"] != run:
        raise ValueError(f"{file} belongs to another training: name another folder")
    tensors = load_file(file)
    losses, seconds = tensors.pop("losses").tolist(), tensors.pop("seconds").item()
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
        if losses:
            optimizer.state[parameter] = {key: tensors[f"{key} of {name}"].to(parameter.device) for key in MOMENTS}
    return losses, seconds
