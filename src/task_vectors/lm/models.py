"""Load a causal language model: one of those that come with pip, a Hugging Face hub id, or a local folder."""

import os
import re
import reprlib
from dataclasses import dataclass

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from task_vectors.lm.bundled import BUNDLED, ModelError, check_memory, converted

# Where each architecture keeps its decoder layers (the modules whose output is the residual stream).
LAYER_PATHS = {
    "falcon": "transformer.h",
    "gemma": "model.layers",
    "gemma2": "model.layers",
    "gemma3": "model.language_model.layers",
    "gemma3_text": "model.layers",
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "gptj": "transformer.h",
    "llama": "model.layers",
    "mamba": "backbone.layers",
    "mamba2": "backbone.layers",
    "mistral": "model.layers",
    "olmo": "model.layers",
    "olmo2": "model.layers",
    "olmo3": "model.layers",
    "opt": "model.decoder.layers",
    "phi": "model.layers",
    "phi3": "model.layers",
    "qwen2": "model.layers",
    "qwen3": "model.layers",
}
# Buffers that older versions of transformers saved beside the weights, and compute themselves by now.
HARMLESS = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias)$")
RECURRENT = ("mamba", "mamba2")  # their state is no cache of tokens, which could be repeated or cut
SHOWN = 300  # characters of a name or a text of transformers in an error
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LanguageModel:
    """A Hugging Face causal LM, used as it is (weights are never folded), with its decoder layers at hand."""

    name: str  #: as it was given to `load_model`
    model: PreTrainedModel  #: transformers' own
    tokenizer: PreTrainedTokenizerBase  #: its tokenizer, with its own special tokens

    @property
    def layers(self) -> nn.ModuleList:
        """The L decoder layers, whose outputs are the residual stream."""
        return self.model.get_submodule(layer_path(self.model.config.model_type, self.name))

    @property
    def n_layers(self) -> int:
        """How many there are, L."""
        return len(self.layers)

    @property
    def d_model(self) -> int:
        """The width d of a state."""
        return self.model.config.get_text_config().hidden_size

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and where ids are put: the first device, and main memory where all are loaded as they
        are needed."""
        places = (weight.device for weight in self.model.parameters())
        return next((place for place in places if place.type != "meta"), torch.device("cpu"))

    @property
    def card(self) -> str:
        """What was loaded, in one line for a page."""
        kind = (
            f"{BUNDLED[self.name].card}; sha256 {BUNDLED[self.name].sha256[:12]}…"
            if self.name in BUNDLED
            else "as published"
        )
        return f"{self.name} ({kind}), {self.n_layers} layers, d = {self.d_model}, {self.model.dtype} on {self.device}"


def load_model(
    name: str = "gemma-3-270m", *, device: str = "auto", dtype: str = "float32", revision: str | None = None
) -> LanguageModel:
    """Load a model for inference.

    Args:
        name: one that comes with pip and needs no network ("gemma-3-270m" and "smollm2-135m"; "qwen2.5-coder-0.5b"
            and "qwen2.5-coder-1.5b" after `make models`), a hub id, or a local folder.
        device: "auto" (Hugging Face's device_map="auto" where there is a GPU: all GPUs, then main memory; else the
            CPU) or any torch device.
        dtype: "float32", "bfloat16" or "float16".
        revision: branch, tag or commit of a hub id.

    Raises:
        ModelError: one line that says what is wrong (checksum, missing or damaged file, unknown architecture, gated or
            unreachable hub id, device, dtype, too little memory) and what to do.
    """
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not known: choose one of {', '.join(DTYPES)}")
    device = _usable(device)
    if name in BUNDLED:
        if revision is not None:
            raise ModelError(f"{name} comes with pip and has no revisions: leave revision out, or name a hub id")
        source = str(converted(name))
    else:
        source = name
    try:
        # A model folder is data: none of its own code runs, nor is anybody asked whether it may.
        plain = {"revision": revision, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(source, **plain)
        layer_path(config.model_type, name)
        if torch.device(device if device != "auto" else "cuda").type == "cpu":
            check_memory(f"{name} in {dtype}", weight_bytes(config, dtype))
        tokenizer = AutoTokenizer.from_pretrained(source, **plain)
        model, report = AutoModelForCausalLM.from_pretrained(
            source,
            **plain,
            dtype=DTYPES[dtype],
            device_map=device,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # a damaged folder makes its readers fail in any way
        raise ModelError(_explain(name, revision, error)) from error
    if report["missing_keys"]:  # transformers fills them with random numbers, and only logs it
        raise ModelError(
            f"{name} lacks {len(report['missing_keys'])} weights, among them {min(report['missing_keys'])}: "
            "its files are incomplete or belong to another architecture, fetch or save it again"
        )
    if unread := [key for key in report["unexpected_keys"] if not HARMLESS.search(key)]:  # dropped without a word
        raise ModelError(
            f"{name} has {len(unread)} weights that its config.json has no place for, among them {min(unread)}: "
            "weights and config.json belong to different models, fetch or save them again"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    # Tokens that were added, as those of images are, may have no row: no prompt's text becomes one of them.
    if beyond := set(range(rows, len(tokenizer))) - tokenizer.added_tokens_decoder.keys():
        raise ModelError(
            f"{name} has embeddings for {rows} tokens, and its tokenizer has {len(beyond)} more: "
            "weights and tokenizer belong to different models, fetch or save them again"
        )
    return LanguageModel(name, model.eval(), tokenizer)


def layer_path(model_type: str, name: str) -> str:
    """Module path of the decoder layers of an architecture; ModelError where it is not in LAYER_PATHS."""
    if model_type not in LAYER_PATHS:
        raise ModelError(
            f"{name} has the architecture {reprlib.repr(model_type)}, whose decoder layers are not known here: "
            f"add it to LAYER_PATHS in task_vectors/lm/models.py, or use one of {', '.join(sorted(LAYER_PATHS))}"
        )
    return LAYER_PATHS[model_type]


def weight_bytes(config: PretrainedConfig, dtype: str) -> int:
    """Memory that the weights of this configuration take; none of them is loaded."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype], trust_remote_code=False)
    return sum(weight.nbytes for weight in model.parameters())


def _usable(device: str) -> str:
    """The device map that `auto` stands for, or the device asked for if torch can use it here."""
    if device == "auto":
        return "auto" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device {device!r} cannot be used here ({_told(error)}): use device='auto' or 'cpu'"
        ) from error
    return device


def _explain(name: str, revision: str | None, error: Exception) -> str:
    """One line for what transformers and the hub's client say in many."""
    causes, cause = [], error
    while cause is not None:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    where = _one_line(repr(name)) + (f" at revision {revision!r}" if revision else "")
    if os.path.isdir(name):  # which, unlike Path, takes a name of any length
        return (
            f"the folder {where} does not hold a model that loads (config.json, tokenizer and weights in safetensors "
            f"form): {_told(error)}"
        )
    if "GatedRepoError" in causes:
        return f"{where} is gated: accept its terms on its hub page, then run `hf auth login`"
    if "RevisionNotFoundError" in causes:
        return f"the hub's {name!r} has no revision {revision!r}: choose a branch, tag or commit of its page"
    if {"RepositoryNotFoundError", "HFValidationError"} & set(causes):
        return (
            f"{where} is no model of the hub, no local folder and none of {', '.join(BUNDLED)}: "
            "check the spelling (a private id needs `hf auth login`)"
        )
    if {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectionError"} & set(causes):
        return (
            f"the hub cannot be reached for {where} and it is not in the local cache: "
            f"connect, or use one of {', '.join(BUNDLED)}"
        )
    return f"{where} cannot be loaded: {_told(error)}"


def _told(error: Exception) -> str:
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
