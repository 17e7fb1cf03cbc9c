"""Texts as a model reads them: token ids of prompts and answers, padding, and the length of its context."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from task_vectors.lm.models import LanguageModel
from task_vectors.prompts.families import FamilyPrompts


def tokenize(lm: LanguageModel, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, with the tokenizer's own special tokens."""
    return lm.tokenizer(list(texts)).input_ids


class Tokens(NamedTuple):
    """Token ids of B prompts and of their answers, as they come when prompt and answer are tokenized as one text."""

    prompts: list[list[int]]
    answers: list[list[int]]


def tokenized(lm: LanguageModel, texts: list[str], answers: list[str]) -> Tokens:
    """Prompts and answers as the model reads them. ValueError where a prompt's tokens do not go on in those of both."""
    prompts = tokenize(lm, texts)
    return Tokens(prompts, tokens_after(lm, prompts, texts, answers))


def tokens_after(
    lm: LanguageModel, beginnings: list[list[int]], texts: list[str], answers: list[str]
) -> list[list[int]]:
    """What comes after the beginnings, the token ids of the texts, when text and answer are tokenized as one."""
    whole = tokenize(lm, [text + answer for text, answer in zip(texts, answers, strict=True)])
    for text, answer, beginning, ids in zip(texts, answers, beginnings, whole, strict=True):
        if ids[: len(beginning)] != beginning or len(ids) == len(beginning):
            raise ValueError(
                "the prompt's tokens are not a beginning of those of prompt and answer together: "
                f"{text[-30:]!r} + {answer!r}"
            )
    return [ids[len(beginning) :] for ids, beginning in zip(whole, beginnings, strict=True)]


def answer_tokens(lm: LanguageModel, texts: list[str], answers: list[str]) -> list[list[int]]:
    """Token ids of each answer, as they come when prompt and answer are tokenized as one text."""
    return tokenized(lm, texts, answers).answers


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


def check_context(lm: LanguageModel, tokens: Tokens) -> None:
    """ValueError where a prompt with its answer has more tokens than the model can read."""
    context = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(prompt) + len(answer) for prompt, answer in zip(*tokens, strict=True))
    if context is not None and longest > context:
        raise ValueError(
            f"the longest prompt has {longest} tokens with its answer, but the context of {lm.name} is {context}: "
            "use fewer demonstrations or shorter ones"
        )


def tokens_up_to_answer(lm: LanguageModel, prompts: FamilyPrompts) -> Tokens:
    """The prompts up to the token right before the answer, where Task Decodability is read, and the answers.

    A word and the space before it are one token; a digit's space is one of its own in many vocabularies. Read at the
    token before that space, a state would foretell a space, whatever the task; so it moves from answers to prompts.
    """
    tokens = tokenized(lm, list(prompts.texts), list(prompts.completions))
    if not _begin_with_space(lm, tokens.answers):
        return tokens
    spaces = {i for i in {i for ids in tokens.answers for i in ids} if not lm.tokenizer.decode([i]).strip()}
    gaps = [next(n for n, i in enumerate(ids) if i not in spaces) for ids in tokens.answers]
    return Tokens(
        [prompt + answer[:gap] for prompt, answer, gap in zip(*tokens, gaps, strict=True)],
        [answer[gap:] for answer, gap in zip(tokens.answers, gaps, strict=True)],
    )


def up_to_answer(lm: LanguageModel, prompts: FamilyPrompts) -> FamilyPrompts:
    """The prompts with texts that end where the prompts of `tokens_up_to_answer` do."""
    if not _begin_with_space(lm, answer_tokens(lm, list(prompts.texts), list(prompts.completions))):
        return prompts
    gaps = [completion[: len(completion) - len(completion.lstrip())] for completion in prompts.completions]
    texts = tuple(text + gap for text, gap in zip(prompts.texts, gaps, strict=True))
    return replace(prompts, texts=texts, completions=tuple(completion.lstrip() for completion in prompts.completions))


def _begin_with_space(lm: LanguageModel, answers: list[list[int]]) -> bool:
    """Is the first token of every answer nothing but space?"""
    return not any(lm.tokenizer.decode([first]).strip() for first in {ids[0] for ids in answers})
