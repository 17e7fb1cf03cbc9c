"""Tiny random-weight models of many architectures, made here: nothing is downloaded."""

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from task_vectors.lm.models import LanguageModel

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = {**SHAPE, "num_key_value_heads": 2, "head_dim": 8}
CONFIGS = {
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 4}),
    "gpt_neox": ("GPTNeoXConfig", SHAPE),
    "llama": ("LlamaConfig", GROUPED),
    "gemma2": ("Gemma2Config", GROUPED),
    "gemma3_text": ("Gemma3TextConfig", {**GROUPED, "sliding_window": 64}),
    "qwen3": ("Qwen3Config", GROUPED),
    "olmo2": ("Olmo2Config", {**SHAPE, "num_key_value_heads": 2}),
    "mistral": ("MistralConfig", {**GROUPED, "sliding_window": 512}),
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, with a beginning-of-text token, as in byte-level vocabularies."""
    alphabet = ["<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE({name: i for i, name in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>")


def _with(before: list[str], behind: list[str]) -> PreTrainedTokenizerFast:
    """The byte tokenizer with special tokens before and behind a text."""
    tokenizer = byte_tokenizer()
    template = " ".join([*before, "$A", *behind])
    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in {*before, *behind}]
    if special:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=special)
    return tokenizer


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """As SentencePiece makes them: a space is ▁ and part of a piece, a line break is a byte, and decoding drops the
    first ▁."""
    letters = [chr(i) for i in range(33, 127)]
    names = ["<s>", "</s>", "<unk>", "<0x0A>", "▁", "→", "▁→", *letters, *(f"▁{letter}" for letter in letters)]
    merges = [("▁", letter) for letter in ("→", *letters)]
    core = Tokenizer(
        models.BPE({name: i for i, name in enumerate(names)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(parts)
    core.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


TOKENIZERS = {
    "bytes": byte_tokenizer,
    "beginning of text before": lambda: _with(["<bos>"], []),
    "end of text behind": lambda: _with([], ["<eos>"]),
    "both": lambda: _with(["<bos>"], ["<eos>"]),
    "pieces": piece_tokenizer,
}


def tiny_model(architecture: str) -> LanguageModel:
    config_name, shape = CONFIGS[architecture]
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    # Weights of the usual size give nearly uniform logits; larger ones make arg-max and attention mean something.
    config = getattr(transformers, config_name)(vocab_size=len(tokenizer), initializer_range=0.3, **shape)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return LanguageModel(f"tiny {architecture}", model.eval(), tokenizer)
