"""Texts as a model reads them: token ids of prompts and answers, padding, and the length of its context."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from task_vectors.lm.models import LanguageModel
from task_vectors.prompts.families import FamilyPrompts
from task_vectors.prompts.few_shot import TERMINATOR

# A line break in the name of a token: as it is, in byte-level vocabularies, as a byte fallback.
BREAKS = ("\n", "\u010a", "<0x0A>")


def tokenize(lm: LanguageModel, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, with the special tokens that the tokenizer puts before it, and none behind: a prompt goes
    on, and its last token is where states are read. ValueError for a text without any."""
    ids, behind = lm.tokenizer(list(texts)).input_ids, _n_behind(lm.tokenizer)
    rows = [row[: len(row) - behind] for row in ids]
    if [] in rows:
        raise ValueError(f"the text {texts[rows.index([])]!r} has no tokens for {lm.name}: it has no state to read")
    return rows


@cache
def _n_behind(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many special tokens (an end of text) the tokenizer puts behind a text."""
    whole, plain = (tokenizer("a", add_special_tokens=special).input_ids for special in (True, False))
    return next(n for n in range(len(whole) + 1) if whole[: len(whole) - n][-len(plain) :] == plain)


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


def whole_lines(lm: LanguageModel, texts: list[str], answers: list[str]) -> Tokens:
    """Prompts, and answers with the end of their line, as the tokenizer spells both at once: an answer that ends in a
    period may share its last token with the line break.

    ValueError for answers that greedy decoding could never be found to write: the tokenizer drops line breaks, or
    spells another text than the answer (in small letters, without accents, with spaces around a hyphen).
    """
    prompts = tokenize(lm, texts)
    lines = tokens_after(lm, prompts, texts, [answer + TERMINATOR for answer in answers])
    for answer, line in zip(answers, lines, strict=True):
        if _before_break(lm.tokenizer.convert_ids_to_tokens(line[-1])) is None:
            raise ValueError(f"the tokenizer of {lm.name} drops line breaks: whether an answer ends cannot be scored")
        if (spelled := line_of(lm, line)) != answer.strip(" "):
            raise ValueError(
                f"the tokenizer of {lm.name} spells {answer!r} as {spelled!r}: no model could be found to write it"
            )
    return Tokens(prompts, lines)


def answer_lines(lm: LanguageModel, texts: list[str], answers: list[str]) -> Tokens:
    """The same for answers that end their line, without that end.

    Where the answer's last token holds the line break too, the part before it is spelled by itself; what stands before
    is spelled as it is before such a token: "p", ".m", ".\\n" gives "p", ".m", ".".
    """
    prompts, lines = whole_lines(lm, texts, answers)
    return Tokens(prompts, [_without_end(lm.tokenizer, line) for line in lines])


def _without_end(tokenizer: PreTrainedTokenizerBase, line: list[int]) -> list[int]:
    rest = _before_break(tokenizer.convert_ids_to_tokens(line[-1]))
    if not rest:
        return line[:-1]
    known = _vocabulary(tokenizer)
    return line[:-1] + ([known[rest]] if rest in known else tokenizer(rest, add_special_tokens=False).input_ids)


def line_of(lm: LanguageModel, ids: list[int]) -> str:
    """The first line that tokens spell, to the letter but for the spaces around it; special tokens spell nothing."""
    # Some tokenizers would tidy up: "a ." becomes "a.".
    text = lm.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.split(TERMINATOR)[0].strip(" ")


@cache  # as a dictionary of a quarter of a million names it is made anew at every call
def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    return tokenizer.get_vocab()


@cache
def line_ends(tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """Ids of the tokens that hold a line break, by the part of their name before it."""
    # Vocabularies are large and decoding slow: only tokens that may hold a line break are decoded.
    found: dict[str, list[int]] = {"": []}
    for i, name in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        rest = None if name is None else _before_break(name)
        if rest is not None and TERMINATOR in tokenizer.decode([i]):
            found.setdefault(rest, []).append(i)
    return found


def text_ends(lm: LanguageModel) -> list[int]:
    """Ids of the tokens that end a text: the tokenizer's, and those at which the model's own `generate` stops."""
    own = getattr(lm.model.generation_config, "eos_token_id", None)
    named = {lm.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    # A configuration may name an id of another vocabulary: what ends a text is a special token.
    return sorted(i for i in named if i < len(lm.tokenizer) and not lm.tokenizer.decode([i], skip_special_tokens=True))


def _before_break(name: str) -> str | None:
    """The part of a token's name before its line break; None where it has none."""
    mark = next((mark for mark in BREAKS if mark in name), None)
    return None if mark is None else name.partition(mark)[0]


def pad(lm: LanguageModel, rows: list[list[int]], left: bool = True) -> tuple[Tensor, Tensor]:
    """Ids and mask, [B, longest], padded on one side; the pad's id is never seen."""
    width = max(map(len, rows))
    fill = [[0] * (width - len(row)) for row in rows]
    ones = [[1] * len(row) for row in rows]

    def block(pads: list[list[int]], values: list[list[int]]) -> Tensor:
        joined = [pad + row if left else row + pad for pad, row in zip(pads, values, strict=True)]
        return torch.tensor(joined, dtype=torch.long, device=lm.device).view(len(rows), width)

    return block(fill, rows), block(fill, ones)


def common_beginning(rows: list[list[int]], limit: int) -> int:
    for column in range(limit):
        if len({row[column] for row in rows}) > 1:
            return column
    return limit


def check_context(lm: LanguageModel, tokens: Tokens, generated: int = 0) -> None:
    """ValueError where a prompt, its answer and what is generated after them have more tokens than the model reads."""
    context = context_length(lm)
    longest = generated + max(len(prompt) + len(answer) for prompt, answer in zip(*tokens, strict=True))
    if context is not None and longest > context:
        raise ValueError(
            f"the longest prompt has {longest} tokens with its answer, but the context of {lm.name} is {context}: "
            "use fewer demonstrations or shorter ones"
        )


def prompt_tokens(lm: LanguageModel, texts: list[str], generated: int = 0) -> list[list[int]]:
    """Token ids of the texts, which fit into the model's context with what is generated after them.

    ValueError where there are none, or one has no tokens or too many.
    """
    if not texts:
        raise ValueError("there are no texts")
    ids = tokenize(lm, texts)
    check_context(lm, Tokens(ids, [[]] * len(ids)), generated)
    return ids


def context_length(lm: LanguageModel) -> int | None:
    """Tokens that the model reads at most; None where its architecture sets no limit.

    With long rotary scaling ("longrope", as in Phi-3) the whole batch is rotated otherwise once its longest prompt is
    past the length of pretraining; there a prompt's result would depend on its batch, so the limit lies there.
    """
    config = lm.model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None)]
    rotary = getattr(config, "rope_parameters", None) or {}
    for scaling in (rotary, *rotary.values()):  # one for all layers, or one for each kind of them
        if isinstance(scaling, dict) and scaling.get("rope_type") == "longrope":
            limits.append(scaling["original_max_position_embeddings"])
    return min((limit for limit in limits if limit is not None), default=None)


def tokens_up_to_answer(lm: LanguageModel, prompts: FamilyPrompts) -> Tokens:
    """The prompts up to the token right before the answer, where Task Decodability is read, and the answers.

    A word and the space before it are one token; a digit's space is one of its own in many vocabularies. Read at the
    token before that space, a state would foretell a space, whatever the task; so it moves from answers to prompts.
    """
    tokens = answer_lines(lm, list(prompts.texts), list(prompts.completions))
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
