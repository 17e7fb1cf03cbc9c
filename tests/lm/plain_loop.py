"""A tiny model of every architecture, and the plain loop over it: no batches, pads, caches or shared beginnings."""

import torch
import transformers
from tiny_models import GROUPED, SHAPE, TOKENIZERS
from transformers import AutoModelForCausalLM

from task_vectors.lm.models import LanguageModel

FEW_HEADS = {**SHAPE, "num_key_value_heads": 2}
SEEING = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 8, "patch_size": 4}  # fmt: skip
ARCHITECTURES = {
    "falcon": ("Falcon", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}),
    "gemma": ("Gemma", GROUPED),
    "gemma2": ("Gemma2", GROUPED),
    "gemma3": ("Gemma3", {"text_config": {**GROUPED, "sliding_window": 64}, "vision_config": SEEING}),
    "gemma3_text": ("Gemma3Text", {**GROUPED, "sliding_window": 64}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 3, "n_head": 4}),
    "gpt_neox": ("GPTNeoX", SHAPE),
    "gptj": ("GPTJ", {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4}),
    "llama": ("Llama", GROUPED),
    "mamba": ("Mamba", {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8}),
    "mamba2": (
        "Mamba2",
        {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1},
    ),
    "mistral": ("Mistral", {**GROUPED, "sliding_window": 512}),
    "olmo": ("Olmo", FEW_HEADS),
    "olmo2": ("Olmo2", FEW_HEADS),
    "olmo3": ("Olmo3", {**FEW_HEADS, "sliding_window": 64}),
    "opt": ("OPT", {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
                    "word_embed_proj_dim": 32}),
    "phi": ("Phi", SHAPE),
    "phi3": ("Phi3", FEW_HEADS),
    "qwen2": ("Qwen2", FEW_HEADS),
    "qwen3": ("Qwen3", GROUPED),
}  # fmt: skip
# Other ways in which such a model may be built.
VARIANTS = {
    "falcon with linear biases": ("Falcon", {**ARCHITECTURES["falcon"][1], "alibi": True}),
    "gemma3_text, narrow window": ("Gemma3Text", {**GROUPED, "sliding_window": 12}),
    "mistral, narrow window": ("Mistral", {**GROUPED, "sliding_window": 12}),
    "opt, norm behind": ("OPT", {**ARCHITECTURES["opt"][1], "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
}
# A shared beginning, and lengths that differ.
TEXTS = ["Example:ab → c\nExample:q →", "Example:ab → c\nExample:long one →", "Example:a →"]
ANSWERS = [" c", " a word", " z."]


def build(architecture: str, kind: str) -> LanguageModel:
    name, shape = (ARCHITECTURES | VARIANTS)[architecture]
    tokenizer = TOKENIZERS[kind]()
    common = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1}
    common["initializer_range"] = 0.3
    settings = {"text_config": {**shape["text_config"], **common}} if "text_config" in shape else common
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**shape, **settings})
    return LanguageModel(f"tiny {architecture}", AutoModelForCausalLM.from_config(config).eval(), tokenizer)


class Plain:
    """The same by one forward pass after the other. An edit is (layer, columns, vectors)."""

    def __init__(self, lm: LanguageModel):
        self.lm, self.decode = lm, lm.tokenizer.decode
        spelled = [self.decode([i]) for i in range(len(lm.tokenizer))]
        self.breaks = [i for i, text in enumerate(spelled) if "\n" in text]

    def ids(self, text: str) -> list[int]:
        """Without the end of text that some tokenizers put behind: the prompt goes on."""
        ids = self.lm.tokenizer(text).input_ids
        return ids[:-1] if ids[-1] in (self.lm.tokenizer.eos_token_id, self.lm.tokenizer.sep_token_id) else ids

    def forward(self, ids, edit=None):
        """States [L, T, d] after each layer and logits [T, V]."""
        states, handles = [], []

        def hook(layer):
            def run(_module, _inputs, output):
                hidden = (output[0] if isinstance(output, tuple) else output).clone()
                if edit and edit[0] == layer:
                    hidden[0, edit[1]] = edit[2]
                states.append(hidden[0])
                return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

            return run

        for layer, module in enumerate(self.lm.layers):
            handles.append(module.register_forward_hook(hook(layer)))
        try:
            with torch.no_grad():
                logits = self.lm.model(torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(states), logits

    def states(self, text):
        return self.forward(self.ids(text))[0][:, -1]  # [L, d]

    def at_last(self, text, layer, vector):
        """The edit that puts a vector in at the text's last token."""
        return layer, len(self.ids(text)) - 1, vector

    def tokens(self, text, steps, edit=None):
        """Tokens that greedy decoding writes, whatever they are."""
        ids, written = self.ids(text), []
        while len(written) < steps:
            written.append(self.forward(ids + written, edit)[1][-1].argmax().item())
        return written

    def greedy(self, text, steps, edit=None):
        """What they spell up to the first that holds a line break or ends the text."""
        written = self.tokens(text, steps, edit)
        ends = [n for n, i in enumerate(written, 1) if i == 1 or i in self.breaks]
        return self.decode(written[: min([*ends, steps])], skip_special_tokens=True).split("\n")[0].strip(" ")

    def log_prob(self, text, answer, edit=None):
        """Of all the ways to go on like the answer's own tokens up to a place, and then with one token that ends the
        line: it spells what is left of the answer and a line break, or ends the text behind it."""
        prompt, whole = self.ids(text), self.ids(text + answer)
        own, line = whole[len(prompt) :], self.decode(whole) + "\n"
        logits = self.forward(whole, edit)[1][len(prompt) - 1 :].log_softmax(-1)  # [tokens + 1, V]
        before = [0, *logits[range(len(own)), own].cumsum(0)]
        ways = [before[-1] + logits[-1, 1]]
        for place, beginning in enumerate(before):
            written = prompt + own[:place]
            ways += [beginning + logits[place, i] for i in self.breaks if self.decode([*written, i]).startswith(line)]
        return torch.stack(ways).logsumexp(0)


def one_by_one(call, *columns) -> torch.Tensor:
    return torch.stack([call(*row) for row in zip(*columns, strict=True)])
