"""Read hidden states of a causal LM and put others in their place.

"After layer l" means the output of decoder layer l (0 … L-1), the residual stream, before the final norm.
Everything here runs the Hugging Face model as it is, with forward hooks that are always removed. What is read comes
back in main memory, wherever the model lies, and what is put in may lie anywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from task_vectors.lm.answers import end_of_line_ids, judge
from task_vectors.lm.forward import Edit, Run, check_cache, check_layer, chunks, fits_window, layer_edits
from task_vectors.lm.models import LanguageModel, layer_path
from task_vectors.lm.tokens import Tokens, answer_lines, check_context, common_beginning, line_of, pad, prompt_tokens


class SweepScores(NamedTuple):
    """Scores of the answers with a vector put in after each layer, each [B, L]."""

    log_prob: Tensor  #: natural log of the probability of the answer and the end of its line
    first_token: Tensor  #: is the answer's first token the most likely one?
    exact: Tensor  #: is every token of the answer the most likely one, and then one that ends the line?


class Continuation(NamedTuple):
    """What greedy decoding wrote after each prompt, and the states it was read from."""

    texts: list[str]  #: up to the end of the line, or to max_tokens
    first_tokens: Tensor  #: [B] id of the first token written
    states: Tensor  #: [B, L, d] after each layer at the prompt's last token


@contextmanager
def inject(lm: LanguageModel, vectors: Tensor, layer: int, positions: int | Tensor = -1) -> Iterator[None]:
    """While inside, every forward runs with the states after `layer` replaced at `positions` of its prompt.

    What `generate` adds to a prompt is not touched: with a KV cache its later forwards go on from the prompt's, and
    without one, where each reads the prompt again and one token more, positions stay those of the prompt.

    Args:
        vectors: [B, d] for one position a prompt, or [B, P, d] for P positions.
        layer: 0 … L-1; the state after this layer is replaced.
        positions: column in the padded batch, negative from its end: an int, [B], or [B, P].

    Raises:
        ValueError: shapes that do not fit each other or the forward's batch, or no such layer.
        RuntimeError: no forward went through the layer, so that nothing was replaced.
    """
    vectors = vectors if vectors.ndim == 3 else vectors[:, None]  # [B, P, d]
    columns = torch.as_tensor(positions, device=vectors.device)
    columns = columns.expand(vectors.shape[:2]) if columns.ndim != 1 else columns[:, None]
    if columns.shape != vectors.shape[:2]:
        raise ValueError(
            f"positions {list(columns.shape)} do not name one column for each of vectors {list(vectors.shape)}"
        )
    read, width, continues = None, 0, False  # what the last forward read, columns of its prompt, does it use a cache?

    def note(_module, args: tuple, kwargs: dict) -> None:
        nonlocal read, width, continues
        cache, state = kwargs.get("past_key_values"), kwargs.get("cache_params")  # the second: a recurrent model's
        continues = (cache is not None and cache.get_seq_length() > 0) or (
            state is not None and state.has_previous_state()
        )
        given = next(
            value for value in (*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if value is not None
        )
        if read is None or not _goes_on(given, read):
            width = given.shape[1]
        read = given

    def edit(hidden: Tensor) -> Tensor | None:
        if continues:
            return None
        if hidden.shape[0] != len(vectors):
            raise ValueError(f"the forward has {hidden.shape[0]} prompts, but there are vectors for {len(vectors)}")
        hidden = hidden.clone()
        rows = torch.arange(len(vectors), device=hidden.device)[:, None]  # [B, 1]
        at = columns.to(hidden.device)
        hidden[rows, torch.where(at < 0, at + width, at)] = vectors.to(hidden)
        return hidden

    # What holds the layers runs in every forward; OPT's base_model does not.
    holder = layer_path(lm.model.config.model_type, lm.name).rpartition(".")[0]
    handle = lm.model.get_submodule(holder).register_forward_pre_hook(note, with_kwargs=True)
    try:
        with layer_edits(lm, {layer: edit}):
            yield
    finally:
        handle.remove()


def _goes_on(now: Tensor, before: Tensor) -> bool:
    """Is a batch of ids [B, T] or states [B, T, d] the one before with one more token, as generate's next?"""
    return now.shape[:2] == (len(before), before.shape[1] + 1) and torch.equal(now[:, :-1], before)


@torch.no_grad()
def capture(lm: LanguageModel, texts: list[str], *, shared: int = 1, rows: int = 96) -> Tensor:
    """States after each layer at the last token of each text, [B, L, d], on the CPU.

    Args:
        texts: the prompts.
        shared: rows come in runs of this many texts with a common beginning, which is run once for each run.
        rows: texts in one batch.

    Raises:
        ValueError: there are no texts, they do not come in runs of `shared`, or one is longer than the model's
            context; before the first forward pass.
    """
    if shared > 1:
        check_cache(lm)
    runs = [_prefill(lm, chunk, shared).states for chunk in chunks(prompt_tokens(lm, texts), rows, shared)]
    return torch.cat(runs)  # [B, L, d]


@torch.no_grad()
def continue_greedily(
    lm: LanguageModel,
    texts: list[str],
    *,
    vectors: Tensor | None = None,
    layer: int | None = None,
    shared: int = 1,
    max_tokens: int = 8,
    rows: int = 96,
) -> Continuation:
    """Greedy continuations to the end of the line, with or without a vector at the last token of each prompt.

    Args:
        texts: the prompts.
        vectors: [B, d], put in place of the last token's states after `layer`; None for nothing.
        layer: 0 … L-1, if there are vectors.
        shared: rows come in runs of this many texts with a common beginning; it is run once for each run, and its KV
            cache serves them all. The result does not depend on it.
        max_tokens: a text that has not ended its line by then is returned as far as it went.
        rows: texts in one batch.

    Raises:
        ValueError: vectors without a layer or a layer without vectors, or texts that `capture` does not take.
    """
    check_cache(lm)
    if (vectors is None) != (layer is None):
        raise ValueError("vectors and layer go together: give both or neither")
    if layer is not None:
        check_layer(lm, layer)
    written, states, start = [], [], 0  # token ids of each text; [B, L, d] of each batch
    prompts = prompt_tokens(lm, texts, max_tokens - 1)  # the last token is written and not read
    for chunk in chunks(prompts, rows, shared):
        edits = {}
        if vectors is not None:
            edits[layer] = _replace_last(vectors[start : start + len(chunk)])
        start += len(chunk)
        prompt = _prefill(lm, chunk, shared, edits, max_tokens)
        written += _decode(lm, prompt, max_tokens)
        states.append(prompt.states)
    texts = [line_of(lm, ids) for ids in written]
    return Continuation(texts, torch.tensor([ids[0] for ids in written]), torch.cat(states))


@torch.no_grad()
def layer_sweep(
    lm: LanguageModel, texts: list[str], vectors: Tensor, answers: list[str] | None = None, *, rows: int = 144
) -> Tensor | SweepScores:
    """Put vectors[:, l] in after layer l at the last token, for every l, at the cost of about one forward pass.

    What Hendel et al. (2023) do layer by layer.

    Only the last token's state changes, so all tokens before it run once; their KV cache is repeated L times, and one
    forward of the last token (and the answer) carries all L variants: the hook on layer l edits only the rows of l.

    Args:
        texts: the prompts, as `Prompts.zero_shot_texts`.
        vectors: [B, L, d], one for each prompt and layer.
        answers: text that follows each prompt (" cats"); the end of its line is scored with it. None: only logits.
        rows: prompts × layers in one batch.

    Returns:
        Logits of the last token [B, L, V], or with answers SweepScores of [B, L] each.

    Raises:
        ValueError: vectors of another shape, or an answer whose tokens do not go on from its prompt's.
    """
    check_cache(lm)
    if vectors.shape[:2] != (len(texts), lm.n_layers):
        raise ValueError(f"vectors must be [B, L, d] = [{len(texts)}, {lm.n_layers}, d], not {list(vectors.shape)}")
    if answers is None:
        tokens = Tokens(prompt_tokens(lm, texts), [[]] * len(texts))
    else:
        tokens = answer_lines(lm, texts, answers)
        check_context(lm, tokens)
    step = max(1, rows // lm.n_layers)
    parts = []
    for start in range(0, len(texts), step):
        span = slice(start, start + step)
        part = Tokens(tokens.prompts[span], tokens.answers[span])
        logits = _sweep(lm, part, vectors[span].to(lm.device))  # [tokens, V]
        if answers is None:
            parts.append(logits.view(-1, lm.n_layers, logits.shape[-1]).cpu())
        else:
            parts.append(_scores(lm, logits, part))
    if answers is None:
        return torch.cat(parts)  # [B, L, V]
    return SweepScores(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def unembed(lm: LanguageModel, vectors: Tensor) -> Tensor:
    """Logits [B, V] that the model's own final norm and unembedding give for states (the logit lens).

    Args:
        vectors: [B, d], states after any layer.
    """
    # After the last layer only the norm and the unembedding are left, whatever the architecture calls them.
    any_token = torch.zeros(len(vectors), 1, dtype=torch.long, device=lm.device)
    with layer_edits(lm, {lm.n_layers - 1: _replace_last(vectors)}):
        return lm.model(any_token).logits[:, -1]


def _sweep(lm: LanguageModel, tokens: Tokens, vectors: Tensor) -> Tensor:
    """Logits [tokens, V] of every prompt and layer, prompt after prompt: at the last token and at the answer's."""
    L, (prompts, tails) = lm.n_layers, tokens
    tail, real = pad(lm, tails, left=False)  # [B, A]
    head, head_mask = pad(lm, [ids[:-1] for ids in prompts])  # [B, T-1]
    run = Run(lm)
    if head.shape[1]:
        run.feed(head, head_mask)
    run.repeat(L)
    last = torch.tensor([ids[-1:] for ids in prompts], device=lm.device)  # [B, 1]
    fed = torch.cat([last, tail], 1).repeat_interleave(L, 0)  # [B·L, 1+A]
    mask = torch.cat([torch.ones_like(last), real], 1).repeat_interleave(L, 0)  # [B·L, 1+A]

    def edit(layer: int) -> Edit:
        def put(hidden: Tensor) -> Tensor:
            hidden = hidden.clone()
            hidden[layer::L, 0] = vectors[:, layer].to(hidden)
            return hidden

        return put

    with layer_edits(lm, {layer: edit(layer) for layer in range(L)}):
        return run.feed(fed, mask, mask.bool())


def _scores(lm: LanguageModel, logits: Tensor, tokens: Tokens) -> SweepScores:
    found = judge(lm, logits, [answer for answer in tokens.answers for _ in range(lm.n_layers)])
    return SweepScores(*(part.view(-1, lm.n_layers) for part in (found.log_prob, found.first, found.right)))


def _replace_last(vectors: Tensor) -> Edit:
    def edit(hidden: Tensor) -> Tensor:
        hidden = hidden.clone()
        hidden[:, -1] = vectors.to(hidden)
        return hidden

    return edit


@dataclass
class _Prompt:
    """A batch of prompts that has been run up to its last token."""

    run: Run
    logits: Tensor  # [B, V] of the last token
    states: Tensor  # [B, L, d] after each layer at the last token


def _prefill(
    lm: LanguageModel,
    ids: list[list[int]],
    shared: int = 1,
    edits: dict[int, Edit] | None = None,
    generated: int = 0,
) -> _Prompt:
    """Run the prompts; beginnings that `shared` neighbours have in common run once. Edits see the last piece fed."""
    common = [0] * len(ids)
    if shared > 1 and fits_window(lm, max(map(len, ids)), generated):
        for start in range(0, len(ids), shared):
            group = ids[start : start + shared]
            # The last token stays out: it is where states are read and edited.
            common[start : start + shared] = [common_beginning(group, min(map(len, group)) - 1)] * shared
    run, states = Run(lm), []
    if min(common) > 0:
        run.feed(*pad(lm, [row[:n] for row, n in zip(ids[::shared], common[::shared], strict=True)]))
        run.repeat(shared)
    else:
        common = [0] * len(ids)
    # An edit comes before the reading of its layer: what is read is what later layers saw.
    watch = {layer: _edit_and_read(states, (edits or {}).get(layer)) for layer in range(lm.n_layers)}
    with layer_edits(lm, watch):
        logits = run.feed_for_next(*pad(lm, [row[n:] for row, n in zip(ids, common, strict=True)]))
    return _Prompt(run, logits, torch.stack(states, 1))


def _edit_and_read(states: list[Tensor], edit: Edit | None) -> Edit:
    def read(hidden: Tensor) -> Tensor | None:
        changed = None if edit is None else edit(hidden)
        states.append((hidden if changed is None else changed)[:, -1].clone().cpu())  # [B, d]
        return changed

    return read


def _decode(lm: LanguageModel, prompt: _Prompt, max_tokens: int) -> list[list[int]]:
    """Greedy decoding of prompts that have been run; a row leaves the batch with the token that ends its line."""
    ends = end_of_line_ids(lm)
    written: list[list[int]] = [[] for _ in prompt.logits]
    rows = torch.arange(len(written), device=lm.device)
    token = prompt.logits.argmax(-1)  # [rows]
    for step in range(max_tokens):
        for row, value in zip(rows.tolist(), token.tolist(), strict=True):
            written[row].append(value)
        going = ~torch.isin(token, ends)
        if step + 1 == max_tokens or not going.any():
            break
        if not going.all():
            rows, token = rows[going], token[going]
            prompt.run.select(going.nonzero()[:, 0])
        token = prompt.run.feed_for_next(token[:, None], torch.ones_like(token[:, None])).argmax(-1)
    return written
