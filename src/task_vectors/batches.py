"""Token batches for a causal LM: padding with the right positions, and sequences fed in pieces through a KV cache."""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from task_vectors.models import LanguageModel


def tokenize(lm: LanguageModel, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, with the tokenizer's own special tokens."""
    return lm.tokenizer(list(texts)).input_ids


def answer_tokens(lm: LanguageModel, texts: list[str], answers: list[str]) -> list[list[int]]:
    """Token ids of each answer, as they come when prompt and answer are tokenized as one text."""
    prompts = tokenize(lm, texts)
    whole = tokenize(lm, [text + answer for text, answer in zip(texts, answers, strict=True)])
    for text, answer, prompt, ids in zip(texts, answers, prompts, whole, strict=True):
        if ids[: len(prompt)] != prompt or len(ids) == len(prompt):
            raise ValueError(
                "the prompt's tokens are not a beginning of those of prompt and answer together: "
                f"{text[-30:]!r} + {answer!r}"
            )
    return [ids[len(prompt) :] for ids, prompt in zip(whole, prompts, strict=True)]


def pad(lm: LanguageModel, rows: list[list[int]], left: bool = True) -> tuple[Tensor, Tensor]:
    """Ids and mask, [B, longest], padded on one side; the pad's id is never seen."""
    width = max(map(len, rows))
    fill = [[0] * (width - len(row)) for row in rows]
    ones = [[1] * len(row) for row in rows]

    def block(pads: list[list[int]], values: list[list[int]]) -> Tensor:
        joined = [pad + row if left else row + pad for pad, row in zip(pads, values, strict=True)]
        return torch.tensor(joined, dtype=torch.long, device=lm.device).view(len(rows), width)

    return block(fill, rows), block(fill, ones)


def end_of_line_ids(lm: LanguageModel, terminator: str) -> Tensor:
    """Ids of the tokens whose text begins with the terminator ("\\n", "\\n\\n", …), and of the end of text, [E]."""
    return torch.tensor(_end_of_line(lm.tokenizer, terminator), device=lm.device)


@cache
def _end_of_line(tokenizer: PreTrainedTokenizerBase, terminator: str) -> list[int]:
    # Vocabularies are large and decoding slow: only tokens that may hold a line break are decoded.
    marks = ("\n", "\u010a", "<0x0A>")  # as it is, in byte-level vocabularies, as a byte fallback
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    likely = [i for i, name in enumerate(names) if name is not None and name.startswith(marks)]
    ends = [i for i in likely if tokenizer.decode([i]).startswith(terminator)]
    return ends + [i for i in [tokenizer.eos_token_id] if i is not None]


def whole_runs(rows: int, shared: int) -> int:
    """Batch size: the multiple of `shared` next to `rows`."""
    return max(1, rows // shared) * shared


def chunks(texts: list[str], rows: int, shared: int) -> Iterator[list[str]]:
    if not texts:
        raise ValueError("there are no texts")
    if len(texts) % shared:
        raise ValueError(f"{len(texts)} texts do not come in runs of shared={shared}")
    step = whole_runs(rows, shared)
    return (texts[start : start + step] for start in range(0, len(texts), step))


def fits_window(lm: LanguageModel, tokens: int) -> bool:
    # Pads between a shared beginning and its continuations would use up columns of a sliding attention window.
    window = getattr(lm.model.config.get_text_config(), "sliding_window", None)
    return window is None or 2 * tokens <= window


def common_beginning(rows: list[list[int]], limit: int) -> int:
    for column in range(limit):
        if len({row[column] for row in rows}) > 1:
            return column
    return limit


class Run:
    """A batch of sequences fed in pieces: keeps the KV cache, the mask over all columns, and each token's position."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.cache = DynamicCache(config=lm.model.config)
        self.mask: Tensor | None = None  # [B, columns so far]

    def feed(self, ids: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor | None:
        """Run ids [B, T] with mask [B, T] after what was fed before; logits of the True columns of keep [B, T].

        The logits are [tokens, V], row by row. The vocabulary is most of a short forward's cost, so only the states
        that are asked for go through it, and none without `keep`.
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
        head = self.lm.model.get_output_embeddings()
        handle = head.register_forward_pre_hook(lambda _module, args: (args[0][keep][None],))  # [1, tokens, d]
        try:
            return self.lm.model(**inputs).logits[0]
        finally:
            handle.remove()

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
