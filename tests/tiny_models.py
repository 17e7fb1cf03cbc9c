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


def _with(tokenizer: PreTrainedTokenizerFast, before: list[str], behind: list[str]) -> PreTrainedTokenizerFast:
    """It puts special tokens before and behind a text."""
    template = " ".join([*before, "$A", *behind])
    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in {*before, *behind}]
    if special:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=special)
    return tokenizer


def merging_tokenizer(merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """As those of Qwen and Llama 3: bytes that are merged, among them a period and the line break (Ċ) after it."""
    names = ["<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]
    core = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>")


def piece_tokenizer(prefix: bool = True) -> PreTrainedTokenizerFast:
    """As SentencePiece makes them: a space is ▁ and part of a piece, and a line break is a byte.

    With a prefix, a text begins with ▁, and decoding drops the first one.
    """
    letters = [chr(i) for i in range(33, 127)]
    names = ["<s>", "</s>", "<unk>", "<0x0A>", "▁", "→", "▁→", *letters, *(f"▁{letter}" for letter in letters)]
    merges = [("▁", letter) for letter in ("→", *letters)]
    core = Tokenizer(
        models.BPE({name: i for i, name in enumerate(names)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", "▁")
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefix else parts)
    core.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """As BERT's: small letters, spaces and line breaks are dropped, and decoding puts a space between words."""
    letters = [chr(i) for i in range(33, 127) if not chr(i).isupper()]
    names = ["[CLS]", "[SEP]", "[UNK]", "→", *letters, *(f"##{letter}" for letter in letters)]
    core = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)])
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def normalizing_tokenizer(normalizer: normalizers.Normalizer) -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizer
    return tokenizer


MERGES = [(".", "Ċ"), ("Ċ", "Ċ"), ("Ġ", "c"), ("l", "e")]
TOKENIZERS = {
    "bytes": byte_tokenizer,
    "beginning of text before": lambda: _with(byte_tokenizer(), ["<bos>"], []),
    "end of text behind": lambda: _with(byte_tokenizer(), [], ["<eos>"]),
    "both": lambda: _with(byte_tokenizer(), ["<bos>"], ["<eos>"]),
    "pieces": piece_tokenizer,
    "pieces without a prefix": lambda: piece_tokenizer(prefix=False),
    "merges": lambda: merging_tokenizer(MERGES),  # as Qwen's
    "merges, beginning of text before": lambda: _with(merging_tokenizer(MERGES), ["<bos>"], []),  # as Llama 3's
    "compatible characters": lambda: normalizing_tokenizer(normalizers.NFKC()),
    "words": word_tokenizer,
}


def tiny_model(architecture: str) -> LanguageModel:
    config_name, shape = CONFIGS[architecture]
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    # Weights of the usual size give nearly uniform logits; larger ones make arg-max and attention mean something.
    config = getattr(transformers, config_name)(vocab_size=len(tokenizer), initializer_range=0.3, **shape)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return LanguageModel(f"tiny {architecture}", model.eval(), tokenizer)
