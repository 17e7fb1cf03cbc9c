"""Tiny random-weight models of many architectures, made here: nothing is downloaded."""

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
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


def tiny_model(architecture: str) -> LanguageModel:
    config_name, shape = CONFIGS[architecture]
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    # Weights of the usual size give nearly uniform logits; larger ones make arg-max and attention mean something.
    config = getattr(transformers, config_name)(vocab_size=len(tokenizer), initializer_range=0.3, **shape)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return LanguageModel(f"tiny {architecture}", model.eval(), tokenizer)
