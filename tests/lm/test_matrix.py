"""Every known architecture, with every kind of tokenizer, gives what a plain loop gives, or is refused in one line.

The loop knows no batches, pads, caches or shared beginnings: one prompt, one forward pass, transformers as it is.
"""

import pytest
import torch
import transformers
from tiny_models import GROUPED, SHAPE, TOKENIZERS
from transformers import AutoModelForCausalLM

from task_vectors.lm.interventions import capture, continue_greedily, layer_sweep
from task_vectors.lm.models import LAYER_PATHS, RECURRENT, LanguageModel
from task_vectors.lm.scoring import score

FEW_HEADS = {**SHAPE, "num_key_value_heads": 2}
ARCHITECTURES = {
    "falcon": ("Falcon", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}),
    "gemma": ("Gemma", GROUPED),
    "gemma2": ("Gemma2", GROUPED),
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
# A shared beginning, and lengths that differ.
TEXTS = ["Example:ab → c\nExample:q →", "Example:ab → c\nExample:long one →", "Example:a →"]
ANSWERS = [" c", " a word", " z."]
NEAR = {"rtol": 1e-3, "atol": 1e-3}


def test_the_table_of_architectures_is_whole():
    # gemma3 is gemma3_text inside a model that sees, too large to be made here.
    assert ARCHITECTURES.keys() == LAYER_PATHS.keys() - {"gemma3"}


def build(architecture: str, kind: str) -> LanguageModel:
    name, shape = ARCHITECTURES[architecture]
    tokenizer = TOKENIZERS[kind]()
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.3}
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **special, **shape)
    return LanguageModel(f"tiny {architecture}", AutoModelForCausalLM.from_config(config).eval(), tokenizer)


class Plain:
    """The same by one forward pass after the other."""

    def __init__(self, lm: LanguageModel):
        self.lm = lm

    def ids(self, text: str) -> list[int]:
        """Without the end of text that some tokenizers put behind: the prompt goes on."""
        ids = self.lm.tokenizer(text).input_ids
        return ids[:-1] if ids[-1] == self.lm.tokenizer.eos_token_id else ids

    @torch.no_grad()
    def forward(self, ids, edit=None):
        """States [L, T, d] after each layer and logits [T, V]; edit: (layer, column, vector)."""
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
            logits = self.lm.model(torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(states), logits

    def states(self, text):
        return self.forward(self.ids(text))[0][:, -1]  # [L, d]

    def greedy(self, text, steps):
        """Tokens written up to the first that holds a line break or ends the text, or `steps`."""
        ids, written = self.ids(text), []
        while len(written) < steps:
            written.append(self.forward(ids + written)[1][-1].argmax().item())
            if written[-1] == self.lm.tokenizer.eos_token_id or "\n" in self.lm.tokenizer.decode(written[-1:]):
                break
        return self.lm.tokenizer.decode(written, skip_special_tokens=True).split("\n")[0].strip(" ")

    def log_prob(self, text, answer, edit=None):
        """Of the answer's tokens, and then of any token that begins with a line break, or of the end of text."""
        prompt, whole = self.ids(text), self.ids(text + answer)
        logits = self.forward(whole, edit and (edit[0], len(prompt) - 1, edit[1]))[1].log_softmax(-1)
        names = [self.lm.tokenizer.decode([i]) for i in range(len(self.lm.tokenizer))]
        ends = [i for i, name in enumerate(names) if name.startswith("\n") or i == self.lm.tokenizer.eos_token_id]
        places = range(len(prompt) - 1, len(whole) - 1)
        return sum(logits[i, whole[i + 1]] for i in places) + logits[-1, ends].logsumexp(0)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_scores_texts_and_sweeps_are_those_of_the_plain_loop(architecture, kind):
    lm = build(architecture, kind)
    plain = Plain(lm)
    states = torch.stack([plain.states(text) for text in TEXTS])  # [B, L, d]
    torch.testing.assert_close(capture(lm, TEXTS), states, **NEAR)
    expected = torch.stack([plain.log_prob(*pair) for pair in zip(TEXTS, ANSWERS, strict=True)])
    found = score(lm, TEXTS, ANSWERS)
    torch.testing.assert_close(found.states, states, **NEAR)
    torch.testing.assert_close(found.log_prob, expected, **NEAR)
    if architecture in RECURRENT:
        for call in (
            lambda: continue_greedily(lm, TEXTS),
            lambda: layer_sweep(lm, TEXTS, states),
            lambda: capture(lm, TEXTS[:2], shared=2),
        ):
            with pytest.raises(NotImplementedError, match="is recurrent"):
                call()
        return
    assert continue_greedily(lm, TEXTS, max_tokens=4).texts == [plain.greedy(text, 4) for text in TEXTS]
    torch.testing.assert_close(capture(lm, TEXTS[:2], shared=2), states[:2], **NEAR)
    vectors = states.roll(1, 0)  # another prompt's
    swept = layer_sweep(lm, TEXTS, vectors, ANSWERS).log_prob
    for b, (text, answer) in enumerate(zip(TEXTS, ANSWERS, strict=True)):
        alone = torch.stack([plain.log_prob(text, answer, (layer, vectors[b, layer])) for layer in range(lm.n_layers)])
        torch.testing.assert_close(swept[b], alone, **NEAR)
