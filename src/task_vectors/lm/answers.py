"""Is an answer what greedy decoding writes, and how probable is it? Text is scored, and not one tokenization of it.

A line may end in one of several tokens ("\\n", "\\n\\n", the end of text), or inside the answer's last token, where a
tokenizer merges the two: ".\\n" is one token of Qwen and of Llama 3. All of them spell the same line. They are counted
together: the tokens of the answer (`answer_lines`) up to some place, then one token that holds the rest of the answer
and a line break after it.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from task_vectors.lm.models import LanguageModel
from task_vectors.lm.tokens import line_ends, text_ends

END = -1  # in place of a token's id


class Judged(NamedTuple):
    """Of R answers, on the CPU."""

    right: Tensor  # [R] bool: is the answer, and then the end of its line, what greedy decoding writes?
    log_prob: Tensor  # [R] natural log of the probability of the answer and the end of its line, float32
    first: Tensor  # [R] bool: is the answer's first token the most likely one?


def judge(lm: LanguageModel, logits: Tensor, answers: Sequence[Sequence[int]]) -> Judged:
    """Judge R answers, given as token ids, by the logits [tokens, V] at the prompt's last token and at each of theirs.

    Logits are in the order of the answers: those of answer r are its len(answers[r]) + 1 rows.
    """
    logits = logits.float()  # half precision would round a probability in its third digit
    lengths = torch.tensor([len(answer) + 1 for answer in answers])  # [R]
    starts = lengths.cumsum(0) - lengths  # [R]
    targets = torch.tensor([token for answer in answers for token in (*answer, END)], device=logits.device)  # [tokens]
    ends = _ids(lm, line_ends(lm.tokenizer)[""] + text_ends(lm))
    best, total = logits.argmax(-1), logits.logsumexp(-1)  # [tokens]
    hit = torch.where(targets == END, torch.isin(best, ends), best == targets).cpu()
    word = logits.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    log_probs = (torch.where(targets == END, logits[:, ends].logsumexp(-1), word) - total).cpu()  # [tokens]
    owner = torch.arange(len(answers)).repeat_interleave(lengths)  # [tokens]
    right = torch.zeros(len(answers), dtype=torch.long).index_add(0, owner, hit.long()) == lengths
    log_prob = torch.zeros(len(answers)).index_add(0, owner, log_probs)
    first = hit[starts]
    for r, answer in enumerate(answers):
        for place, ids in _early_ends(lm.tokenizer, tuple(answer)):
            row = int(starts[r]) + place
            before = slice(int(starts[r]), row)
            merged = torch.tensor(ids, device=logits.device)
            early = (logits[row, merged].logsumexp(-1) - total[row]).cpu()
            log_prob[r] = torch.logaddexp(log_prob[r], log_probs[before].sum() + early)
            ended = best[row].item() in ids
            right[r] |= ended and bool(hit[before].all())
            first[r] |= ended and place == 0
    return Judged(right, log_prob, first)


def end_of_line_ids(lm: LanguageModel) -> Tensor:
    """Ids of all tokens in which a line ends, wherever in them it does, and of the end of text, [E]."""
    return _ids(lm, sorted({i for ids in line_ends(lm.tokenizer).values() for i in ids} | set(text_ends(lm))))


def _ids(lm: LanguageModel, ids: list[int]) -> Tensor:
    return torch.tensor(ids, dtype=torch.long, device=lm.device)


@cache
def _early_ends(tokenizer: PreTrainedTokenizerBase, answer: tuple[int, ...]) -> list[tuple[int, list[int]]]:
    """The places in an answer from which on one token holds all the rest and a line break, with those tokens' ids."""
    names = tokenizer.convert_ids_to_tokens(list(answer))
    rests = (("".join(names[place:]), place) for place in range(len(answer)))
    return [(place, ends) for rest, place in rests if (ends := line_ends(tokenizer).get(rest))]
