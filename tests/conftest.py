"""Settings and models that the tests share."""

import os

# Triton reads it when it is imported, which torch may do: its kernels then run on CPU tensors.
os.environ["TRITON_INTERPRET"] = "1"
# Read when numpy or torch is imported, here and in the tests' processes: what is computed is too small to share.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from chromium import running_browser
from playwright.sync_api import Browser
from tiny_models import CONFIGS, tiny_model

from task_vectors.lm import pinned_weights
from task_vectors.lm.models import LanguageModel, ModelError, load_model

torch.set_num_threads(1)
# A slow machine is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session", params=CONFIGS)
def tiny(request) -> LanguageModel:
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def tiny_llama() -> LanguageModel:
    return tiny_model("llama")


@pytest.fixture
def refusal():
    """Load, and give the error's message, which must be one line."""

    def refuse(*args, **kwargs) -> str:
        with pytest.raises(ModelError) as caught:
            load_model(*args, **kwargs)
        message = str(caught.value)
        assert message == message.strip()
        assert len(message.splitlines()) == 1
        return message

    return refuse


@pytest.fixture
def folder(tmp_path) -> Path:
    """A tiny Llama, saved as a hub repository would hold it."""
    lm = tiny_model("llama")
    lm.model.save_pretrained(tmp_path / "tiny")
    lm.tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def tiny_facts(folder, tmp_path, monkeypatch) -> dict[str, str]:
    """What a record is asked of that Llama: model, weights, dtype. Records go to a folder of their own."""
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "records"))
    pinned_weights.loaded_model.cache_clear()
    pinned_weights._folder_digest.cache_clear()
    return {"model": str(folder), "weights": pinned_weights.weights_id(load_model(str(folder))), "dtype": "float32"}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # Playwright runs once in a process, so all tests share it.
    yield from running_browser()


@pytest.fixture(scope="session")
def gemma() -> LanguageModel:
    """The real gemma-3-270m."""
    return load_model("gemma-3-270m")
