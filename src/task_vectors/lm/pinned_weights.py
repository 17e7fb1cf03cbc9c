"""The weights that a recorded result rests on: loaded once for many records, and told apart by what they hold."""

import functools
import hashlib
from pathlib import Path

from transformers.utils import cached_file

from task_vectors.lm.bundled import BUNDLED
from task_vectors.lm.models import LanguageModel, load_model


@functools.lru_cache(maxsize=1)
def loaded_model(name: str, dtype: str, revision: str = "") -> LanguageModel:
    """`load_model` of a name, at a revision of the hub or its newest, with the last one kept: records come in a row."""
    return load_model(name, dtype=dtype, revision=revision or None)


def weights_id(lm: LanguageModel, revision: str = "") -> str:
    """What tells these weights from others of this name: sha256 of the checkpoint or folder, or the hub's commit."""
    if lm.name in BUNDLED:
        return BUNDLED[lm.name].sha256
    if Path(lm.name).is_dir():
        return _folder_digest(lm.name)
    # The hub's client keeps the files of a commit in a folder of that name.
    return Path(cached_file(lm.name, "config.json", revision=revision or None, local_files_only=True)).parent.name


def checked_model(name: str, weights: str, dtype: str, revision: str = "") -> LanguageModel:
    """`loaded_model`, where its weights are those that are named; ValueError where they are others."""
    # Called in the same form as by a page, or the model would be loaded anew for each form.
    lm = loaded_model(name, dtype, revision) if revision else loaded_model(name, dtype)
    if (here := weights_id(lm, revision)) != weights:
        raise ValueError(f"{name} has the weights {here} here, not {weights}: get those, or ask for weights_id()")
    return lm


def answer_tolerance(dtype: str) -> float:
    """Share of greedy answers that another processor may write otherwise: half precision rounds as it multiplies."""
    return 0.0 if dtype == "float32" else 0.25


def log_prob_tolerance(dtype: str) -> float:
    """The same for a mean log-probability, relative."""
    return 1e-3 if dtype == "float32" else 0.05


@functools.cache  # gigabytes, and each record asks
def _folder_digest(name: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(name).iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
