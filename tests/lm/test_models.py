"""Models load from pip or a folder, and whatever is wrong is told in one line that says what to do."""

import json
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest
import safetensors.torch
import torch
from hypothesis import strategies as st
from tiny_models import CONFIGS, SHAPE, byte_tokenizer, tiny_model
from transformers import AutoModelForCausalLM, LlamaConfig

from task_vectors.lm import bundled, models
from task_vectors.lm.models import ModelError, load_model


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


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b""),
        ("config.json", b"[]"),
        ("config.json", b"null"),
        ("config.json", b"{"),
        ("config.json", bytes(range(256))),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b'{"version": 1}'),
        ("tokenizer.json", bytes(range(256))),
        ("tokenizer_config.json", b"[]"),
    ],
)
def test_a_file_that_holds_something_else(folder, refusal, file, content):
    (folder / file).write_bytes(content)
    assert repr(str(folder)) in refusal(str(folder), device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 7},
        {"num_attention_heads": 0, "num_key_value_heads": 0},
        {"num_hidden_layers": "three"},
        {"hidden_size": -32},
        {"vocab_size": 100},
        {"intermediate_size": 64},
        {"hidden_act": "none"},
        {"model_type": ["llama"]},
        {"model_type": 10_000 * "llama"},
        {"dtype": "three"},
        {"dtype": []},
    ],
    ids=lambda change: repr(change)[:40],
)
def test_a_configuration_that_does_not_fit(folder, refusal, change):
    edit_config(folder, change)
    message = refusal(str(folder), device="cpu")
    assert str(folder) in message
    assert len(message) < 1000


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-100, 100),
    st.floats(),
    st.text(max_size=10),
    st.lists(st.integers(-2, 100), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(-2, 100), max_size=2),
)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "tokenizer.json"])
@hypothesis.settings(max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_whatever_a_folder_says_it_loads_or_is_refused_in_one_line(folder, file, data):
    path = folder / file
    whole = path.read_text(encoding="utf-8")
    content = json.loads(whole)
    name = data.draw(st.sampled_from(sorted(content)))
    path.write_text(json.dumps(content | {name: data.draw(ODD)}), encoding="utf-8")
    message = "it loads"
    try:
        load_model(str(folder), device="cpu")
    except ModelError as error:
        message = str(error)
    finally:
        path.write_text(whole, encoding="utf-8")
    assert len(message.splitlines()) == 1
    assert len(message) < 1000


def test_a_tokenizer_with_more_tokens_than_the_model(tmp_path, refusal):
    """Its ids would be looked up beyond the end of the embeddings."""
    config = LlamaConfig(vocab_size=200, **SHAPE)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert "has embeddings for 200 tokens, and its tokenizer has 58 more" in refusal(str(tmp_path), device="cpu")


def test_an_added_token_may_lie_beyond_the_embeddings(folder):
    """As Gemma 3's token of an image does."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    assert len(load_model(str(folder), device="cpu").tokenizer) == 259


@pytest.mark.parametrize("name", ["a" * 5000, "", "a\nb", "a\0b", "/" + "a/" * 3000])
def test_a_name_that_is_none(name, refusal):
    message = refusal(name, device="cpu")
    assert len(message) < 1000
    assert repr(name[:5]).strip("'") in message


def test_a_model_larger_than_the_free_memory_is_refused_before_it_is_loaded(folder, refusal, monkeypatch):
    need = sum(weight.nbytes for weight in load_model(str(folder), device="cpu").model.parameters())
    for dtype, free in (("float32", need - 1), ("bfloat16", need // 2 - 1)):
        monkeypatch.setattr(bundled.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        with monkeypatch.context() as patched:
            load = "from_pretrained"
            patched.setattr(models.AutoModelForCausalLM, load, lambda *_a, **_k: pytest.fail("it was loaded"))
            assert f"in {dtype} needs 0.0 GB of main memory and 0.0 GB are free" in refusal(str(folder), dtype=dtype)
    monkeypatch.setattr(bundled.psutil, "virtual_memory", lambda: SimpleNamespace(available=need))
    assert load_model(str(folder), device="cpu").n_layers == 3
