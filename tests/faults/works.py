"""What kills.py disturbs: a command each, small, and what its files hold but for dates."""

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tiny_gguf
import torch
from notebook_files import write_notebook
from safetensors.torch import load_file
from tiny_models import tiny_model
from trial import TRIAL
from tunings import FAMILY, TUNING

from task_vectors import cli
from task_vectors.lm import bundled, finetuning
from task_vectors.paths import project_root
from task_vectors.records import environment, store
from task_vectors.records.store import Experiment, recorded
from task_vectors.regression import training
from task_vectors.regression.mixtures import SparseMixture

torch.set_num_threads(1)
MIXTURE = SparseMixture(dim=4, rank=2, n_classes=2)
RECIPE = training.Recipe(n_demos=3, n_layers=1, width=16, n_heads=2, steps=120, batch=8)


@dataclass(frozen=True)
class Work:
    """`run(home)` is a process's whole work, `prepare(home)` comes before the first; `processes`: it starts some."""

    run: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda home: None
    processes: bool = False


def at(home: Path) -> None:
    """From now on the project's root is here, in this process."""
    for module in (store, cli):
        module.project_root = lambda: home
    store.source_digest = lambda experiment, parameters: "0" * 64
    environment._commit = lambda: "abc1234"  # whoever commits meanwhile
    os.environ.pop("TASK_VECTORS_RECORDS", None)


def trains(seed: int, scratch: Path):
    losses, _ = training.train(MIXTURE, RECIPE, seed, scratch, every=10)
    models = [training.snapshot(scratch, RECIPE, MIXTURE.dim, step) for step in training.snapshot_steps(scratch)]
    sizes = [sum(value.square().sum().item() for value in model.state_dict().values()) for model in models]
    return {"losses": pd.DataFrame({"loss": losses.numpy()}), "sizes": pd.DataFrame({"size": sizes})}


def record(home: Path) -> None:
    at(home)
    recorded(Experiment("trained", 1, trains, lambda record: []), seed=1)
    for size in (20_000, 30_000):
        recorded(TRIAL, size=size)


def train_regression(home: Path) -> None:
    training.train(MIXTURE, RECIPE, 1, home / "training", every=5)


def tune(home: Path) -> None:
    finetuning.train(tiny_model("llama"), FAMILY, TUNING, home / "training", every=1)


def install(home: Path) -> None:
    data = tiny_gguf.write_tiny_gguf(home / "tmp" / "model.gguf")
    (home / "tmp" / "model.gguf").unlink()
    (home / "model").write_text(repr(tiny_gguf.fake_packages(home / "site", 0, data)))


def convert(home: Path) -> None:
    sys.path.insert(0, str(home / "site"))
    bundled.BUNDLED["fake"] = eval((home / "model").read_text(), vars(bundled))
    os.environ[bundled.VARIABLE] = str(home / "cache")
    bundled.converted("fake")


def fill(home: Path) -> None:
    """Records to keep, the same each time."""
    source = home.parent / "records to keep"
    if not source.exists():
        os.environ["TASK_VECTORS_RECORDS"] = str(source)
        digest, store.source_digest = store.source_digest, lambda experiment, parameters: "0" * 64
        for size in range(3, 15):
            recorded(TRIAL, size=size)
        store.source_digest = digest
        del os.environ["TASK_VECTORS_RECORDS"]
    shutil.copytree(source, home / "runs" / "recorded")


def keep(home: Path) -> None:
    at(home)
    cli.main(["records", "--keep", "--allow-dirty"])


def lay_out(home: Path) -> None:
    """A project of one small notebook."""
    shutil.copytree(project_root() / "workflow", home / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "src" / "task_vectors").mkdir(parents=True)
    (home / "src" / "task_vectors" / "__init__.py").touch()
    (home / "workflow" / "presets" / "smoke.yaml").write_text("01_one: {n: 6}")
    cells = ["import time\ntotal = 0\nfor i in range(n):\n    time.sleep(0.3)\n    total += i", "total", "total + 1"]
    write_notebook(home / "notebooks" / "01_one.ipynb", "n: int = 1  # how many", *cells)


def build(home: Path) -> None:
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [sys.executable, "workflow/build.py", "executed/01_one.ipynb", "--config", "preset=smoke"]
    os.execv(sys.executable, command)


WORKS = {
    "recorded runs": Work(record),
    "regression training": Work(train_regression),
    "fine-tuning": Work(tune),
    "conversion": Work(convert, install),
    "records --keep": Work(keep, fill),
    "smoke build": Work(build, lay_out, processes=True),
}


def is_victim(pid: int) -> bool:
    """A scheduler or a notebook's run: what is killed of a build."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return any(Path(os.fsdecode(word)).name in ("snakemake", "task-vectors", "build.py") for word in words[:2])


def content(path: Path) -> object:
    """What a file holds, without dates and seconds; None for what only tells them."""
    if path.suffix == ".log":
        return None
    if path.name == store.PROVENANCE:
        facts = json.loads(path.read_text())
        return {name: value for name, value in facts.items() if name not in ("date", "seconds", "seal")}
    if path.suffix == ".ipynb":
        return [(cell["source"], cell.get("outputs")) for cell in json.loads(path.read_text())["cells"]]
    if path.suffix == ".safetensors":
        tensors = {name: value for name, value in load_file(path).items() if name != "seconds"}
        return {name: (str(value.dtype), value.tolist()) for name, value in tensors.items()}
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
