"""Forward passes of a causal LM: hooks on its layers, sequences in pieces through a KV cache, logits where asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import DynamicCache

from task_vectors.lm.models import RECURRENT, LanguageModel
from task_vectors.lm.tokens import pad, prompt_tokens

Edit = Callable[[Tensor], Tensor | None]


@contextmanager
def layer_edits(lm: LanguageModel, edits: dict[int, Edit]) -> Iterator[None]:
    """While inside, edits[l] gets the output [B, T, d] of layer l in every forward, and may return its replacement.

    Raises RuntimeError at the end if a hook never fired: an intervention that does nothing must not look like a result.
    """
    fired = dict.fromkeys(edits, False)

    def hook(layer: int, edit: Edit) -> Callable:
        def run(_module, _inputs, output):
            fired[layer] = True
            # Decoder layers return a tensor or a tuple, by architecture and transformers version.
            hidden = output[0] if isinstance(output, tuple) else output
            changed = edit(hidden)
            if changed is None:
                return None
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return run

    handles = []
    try:
        for layer, edit in edits.items():
            check_layer(lm, layer)
            handles.append(lm.layers[layer].register_forward_hook(hook(layer, edit)))
        yield
    finally:
        for handle in handles:
            handle.remove()
    if silent := [layer for layer, done in fired.items() if not done]:
        raise RuntimeError(f"the hook on layer {silent} of {lm.name} never fired: no forward went through it")


@contextmanager
def logits_where(lm: LanguageModel, asked: Tensor) -> Iterator[None]:
    """While inside, only the states at the True entries of asked [B, T] are unembedded: logits are [1, tokens, V].

    A vocabulary is large: the unembedding is most of a short forward's cost and of its memory.
    """

    def keep(_module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0][asked.to(args[0].device)][None],)  # [1, tokens, d]

    handle = lm.model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def states_at(lm: LanguageModel, texts: list[str], columns: Tensor) -> Tensor:
    """States [B, P, L, d] at the tokens `columns` [B, P], counted from each text's end (negative)."""
    rows, states, ids = torch.arange(len(texts))[:, None], [], prompt_tokens(lm, texts)

    def read(hidden: Tensor) -> None:
        states.append(hidden[rows, columns].float().cpu())

    with layer_edits(lm, dict.fromkeys(range(lm.n_layers), read)):
        Run(lm).feed(*pad(lm, ids))
    return torch.stack(states, 2)


def chunks(prompts: list[list[int]], rows: int, shared: int) -> Iterator[list[list[int]]]:
    """The prompts in batches of about `rows`, in which runs of `shared` stay together."""
    if len(prompts) % shared:
        raise ValueError(f"{len(prompts)} texts do not come in runs of shared={shared}")
    step = max(1, rows // shared) * shared
    return (prompts[start : start + step] for start in range(0, len(prompts), step))


def fits_window(lm: LanguageModel, tokens: int, generated: int = 0) -> bool:
    # Pads between a shared beginning and its continuations would use up columns of a sliding attention window.
    window = getattr(lm.model.config.get_text_config(), "sliding_window", None)
    return window is None or 2 * tokens + generated <= window


class Run:
    """A batch of sequences fed in pieces: keeps the KV cache, the mask over all columns, and each token's position."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.cache = DynamicCache(config=lm.model.config)
        self.mask: Tensor | None = None  # [B, columns so far]

    def feed(self, ids: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor | None:
        """Run ids [B, T] with mask [B, T] after what was fed before; logits of the True columns of keep [B, T].

        The logits are [tokens, V], row by row; there are none without `keep`.
        """
        self.mask = mask if self.mask is None else torch.cat([self.mask, mask], 1)
        inputs = {
            "input_ids": ids,
            "attention_mask": self.mask,
            "position_ids": (self.mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :],  # [B, T]: pads do not count
            "past_key_values": self.cache,
            "use_cache": True,
        }
        if keep is None:
            self.lm.model.base_model(**inputs)
            return None
        with logits_where(self.lm, keep):
            return self.lm.model(**inputs).logits[0]

    def feed_for_next(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The same for the last column: logits [B, V] of the token that comes next."""
        keep = torch.zeros_like(ids, dtype=torch.bool)
        keep[:, -1] = True
        return self.feed(ids, mask, keep)

    def repeat(self, times: int) -> None:
        if self.mask is not None:
            self.cache.batch_repeat_interleave(times)
            self.mask = self.mask.repeat_interleave(times, 0)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]


def check_cache(lm: LanguageModel) -> None:
    """NotImplementedError for a recurrent model: prompts cannot go on from a state that many share."""
    if (kind := lm.model.config.model_type) in RECURRENT:
        raise NotImplementedError(
            f"{lm.name} is recurrent ({kind}): its states can be read (capture, score), but no vector put into many "
            "continuations of a prompt, which needs a KV cache"
        )


def check_layer(lm: LanguageModel, layer: int) -> None:
    if not 0 <= layer < lm.n_layers:
        raise ValueError(f"layer {layer} is not one of 0 … {lm.n_layers - 1} of {lm.name}")
