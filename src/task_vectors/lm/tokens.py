"""Texts as a model reads them: token ids of prompts and answers, padding, and the length of its context."""

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from task_vectors.lm.models import LanguageModel
from task_vectors.prompts.families import FamilyPrompts


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


def common_beginning(rows: list[list[int]], limit: int) -> int:
    for column in range(limit):
        if len({row[column] for row in rows}) > 1:
            return column
    return limit


def check_context(lm: LanguageModel, texts: list[str], answers: list[str]) -> None:
    """ValueError where a prompt with its answer has more tokens than the model can read."""
    context = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, tokenize(lm, [text + answer for text, answer in zip(texts, answers, strict=True)])))
    if context is not None and longest > context:
        raise ValueError(
            f"the longest prompt has {longest} tokens with its answer, but the context of {lm.name} is {context}: "
            "use fewer demonstrations or shorter ones"
        )


def up_to_answer(lm: LanguageModel, prompts: FamilyPrompts) -> FamilyPrompts:
    """The prompts with texts that end in the token right before the answer, where Task Decodability is read.

    A word and the space before it are one token; a digit's space is one of its own in many vocabularies. Read at the
    token before that space, a state would foretell a space, whatever the task; so it moves from completions to texts.
    """
    firsts = [tokens[0] for tokens in answer_tokens(lm, list(prompts.texts), list(prompts.completions))]
    if any(lm.tokenizer.decode([first]).strip() for first in firsts):
        return prompts
    gaps = [completion[: len(completion) - len(completion.lstrip())] for completion in prompts.completions]
    texts = tuple(text + gap for text, gap in zip(prompts.texts, gaps, strict=True))
    return replace(prompts, texts=texts, completions=tuple(completion.lstrip() for completion in prompts.completions))
