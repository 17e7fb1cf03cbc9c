"""One forward pass a prompt that gives both what Task Decodability is read from and whether the prompt is solved.

The prompt and its answer are fed together. Greedy decoding would write the answer exactly if every token of it, and
then the end of the line, is the most likely one after what stands before it, so nothing is decoded. Rows are padded
on the right, where a causal model's earlier states do not see it: neither a mask nor a cache is needed, and
recurrent models (Mamba) are read in the same way as transformers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from task_vectors.lm.answers import judge
from task_vectors.lm.forward import layer_edits, logits_where
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.tokens import Tokens, answer_lines, check_context, pad

BATCH = 2048  # tokens, at first


class Scores(NamedTuple):
    """Of B prompts, on the CPU."""

    states: Tensor  #: [B, L, d] after each layer at the prompt's last token, in the model's own precision
    right: Tensor  #: [B] bool: is the answer, and then the end of its line, what greedy decoding writes?
    log_prob: Tensor  #: [B] natural log of the probability of the answer and the end of its line
    first: Tensor  #: [B] bool: is the answer's first token the most likely one?


def score(lm: LanguageModel, texts: list[str], answers: list[str], *, batch: int = BATCH) -> Scores:
    """States and scores of prompts with their answers, from one forward pass each.

    Args:
        texts: the prompts.
        answers: what follows each (" 01101"), with its space.
        batch: tokens that run together, at first; it is halved where the device's memory is too small.

    Raises:
        ValueError: before the first forward pass, for an answer whose tokens do not go on from its prompt's, or a
            prompt that is longer than the model's context.
    """
    if not texts or len(texts) != len(answers):
        raise ValueError(f"there must be an answer for each of at least one text, got {len(texts)} and {len(answers)}")
    return score_tokens(lm, answer_lines(lm, texts, answers), batch=batch)


@torch.no_grad()
def score_tokens(lm: LanguageModel, tokens: Tokens, *, batch: int = BATCH) -> Scores:
    """States and scores of prompts with the answers that may follow them.

    Prompts of about equal length run together, at most `batch` tokens at once; where the device's memory is too small
    for that, batches are halved until one fits. Only the last position's states are kept.

    Raises ValueError, before the first forward pass, for a prompt that is longer than the model's context.
    """
    prompts, tails = tokens
    check_context(lm, tokens)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(tails[i]))
    longest = len(prompts[order[-1]]) + len(tails[order[-1]])
    found, start = [], 0
    while start < len(order):
        rows = order[start : start + max(1, batch // longest)]
        try:
            found.append(_score_batch(lm, [prompts[i] for i in rows], [tails[i] for i in rows]))
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            batch = longest * (len(rows) // 2)
            continue
        start += len(rows)
    back = torch.tensor(order).argsort()
    return Scores(*(torch.cat(parts)[back] for parts in zip(*found, strict=True)))


def _score_batch(lm: LanguageModel, prompts: list[list[int]], tails: list[list[int]]) -> Scores:
    ids, real = pad(lm, [prompt + tail for prompt, tail in zip(prompts, tails, strict=True)], left=False)  # [B, T]
    rows = torch.arange(len(prompts))
    last = torch.tensor([len(prompt) - 1 for prompt in prompts])  # [B]
    # From the prompt's last token on, each token predicts the answer's next one, and at last the end of the line.
    asked = (torch.arange(ids.shape[1]) >= last[:, None]) & real.bool().cpu()  # [B, T]
    states = []

    def read(hidden: Tensor) -> None:
        states.append(hidden[rows.to(hidden.device), last.to(hidden.device)].cpu())  # [B, d]

    with logits_where(lm, asked), layer_edits(lm, dict.fromkeys(range(lm.n_layers), read)):
        logits = lm.model(ids, use_cache=False).logits[0]  # [tokens, V]
    right, log_prob, first = judge(lm, logits, tails)
    return Scores(torch.stack(states, 1), right, log_prob, first)  # states [B, L, d]
