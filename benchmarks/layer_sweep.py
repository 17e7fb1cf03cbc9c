"""layer_sweep against one forward per layer, and capture in bfloat16 against float32, each measured side by side.

The strongest rival keeps the KV cache of the prompt up to its last token, and runs that token once a layer on it; the
plain one runs the whole prompt once a layer. The floor of a sweep is its floating-point operations at the rate of a
large matrix product, taken in the same round.
Run `python benchmarks/layer_sweep.py`; it takes seven minutes on two cores and adds to results/layer_sweep.csv.
"""

import pandas as pd
import torch
from measure import append, gemm_rate, row, timed
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache

from task_vectors.lm.forward import layer_edits
from task_vectors.lm.interventions import capture, continue_greedily, inject, layer_sweep
from task_vectors.lm.models import LanguageModel, load_model
from task_vectors.lm.tokens import pad, tokenize
from task_vectors.prompts.few_shot import few_shot_prompts
from task_vectors.tasks.catalog import get_task

MODEL = "gemma-3-270m"
BATCH = 8  # prompts
N_DEMOS = 10
SWEEPS = {  # name: task, with demonstrations, batches
    "90-token prompts": ("person_to_language", True, 7),
    "zero-shot prompts": ("person_to_language", False, 9),
}
CAPTURE_TASK, CAPTURE_BATCHES = "present_to_gerund", 4
LARGE = 2048  # rows of the square product


def main() -> None:
    lm = load_model(MODEL)
    rows = [row for name in SWEEPS for row in compare_sweeps(lm, name)]
    append("layer_sweep", rows + compare_dtypes(lm))


@torch.no_grad()
def compare_sweeps(lm: LanguageModel, case: str) -> list[dict]:
    """All ways on the same batches, in turn: seconds, their ratios, the floor, and whether they agree."""
    task, with_demos, batches = SWEEPS[case]
    prompts = few_shot_prompts(get_task(task), N_DEMOS, BATCH * batches, seed=0)
    texts = list(prompts.texts) if with_demos else prompts.zero_shot_texts
    rounds = []
    for start in tqdm(range(0, len(texts), BATCH), desc=case):
        batch = texts[start : start + BATCH]
        vectors = capture(lm, list(prompts.vector_texts[start : start + BATCH]))  # [B, L, d]
        once, swept = timed(lambda: layer_sweep(lm, batch, vectors))  # noqa: B023
        cached, stepped = timed(lambda: one_cached_step_per_layer(lm, batch, vectors))  # noqa: B023
        each, slow = timed(lambda: one_forward_per_layer(lm, batch, vectors))  # noqa: B023
        floor = operations(lm, batch) / gemm_rate(LARGE, device=lm.device)
        equal = torch.stack([swept.argmax(-1) == rival.argmax(-1) for rival in (stepped, slow)]).float().mean().item()
        difference = max((swept - rival).abs().max().item() for rival in (stepped, slow))
        rounds.append((once, cached, each, floor, equal, difference))
    found = pd.DataFrame(rounds, columns=["once", "cached", "each", "floor", "equal", "difference"])
    return [
        row(case, "layer_sweep", "s", found.once),
        row(case, "one cached step per layer", "s", found.cached),
        row(case, "one forward per layer", "s", found.each),
        row(case, "floor", "s", found.floor),
        row(case, "one cached step per layer / layer_sweep", "ratio", found.cached / found.once),
        row(case, "one forward per layer / layer_sweep", "ratio", found.each / found.once),
        row(case, "layer_sweep / floor", "ratio", found.once / found.floor),
        row(case, "arg-max equal", "share", [found.equal.mean()]),
        row(case, "largest difference", "logits", [found.difference.max()]),
    ]


def one_cached_step_per_layer(lm: LanguageModel, texts: list[str], vectors: Tensor) -> Tensor:
    """The strongest rival: the prompts once, up to their last tokens, then L forwards of these alone. [B, L, V]."""
    ids, mask = pad(lm, tokenize(lm, texts))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache, head = DynamicCache(config=lm.model.config), ids.shape[1] - 1
    inputs = {"past_key_values": cache, "use_cache": True}
    lm.model.base_model(ids[:, :head], attention_mask=mask[:, :head], position_ids=positions[:, :head], **inputs)
    logits = []
    for layer in range(lm.n_layers):
        with layer_edits(lm, {layer: lambda hidden: vectors[:, layer, None].to(hidden)}):  # noqa: B023
            run = lm.model(ids[:, head:], attention_mask=mask, position_ids=positions[:, head:], **inputs)
        logits.append(run.logits[:, -1])
        cache.crop(-1)
    return torch.stack(logits, 1)


def one_forward_per_layer(lm: LanguageModel, texts: list[str], vectors: Tensor) -> Tensor:
    """The plain way: the last token's logits [B, L, V] from L forwards of the whole batch."""
    ids, mask = pad(lm, tokenize(lm, texts))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = []
    for layer in range(lm.n_layers):
        with inject(lm, vectors[:, layer], layer):
            run = lm.model(ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
        logits.append(run.logits[:, -1])
    return torch.stack(logits, 1)


def operations(lm: LanguageModel, texts: list[str]) -> float:
    """Floating-point operations that a sweep cannot do without (attention's own, under 1 %, left out).

    2 a parameter and token for every token before the last, and for the last one L times; 2 V d for each row of logits.
    """
    embedding = lm.model.get_input_embeddings().weight
    inside = sum(weight.numel() for weight in lm.model.parameters()) - embedding.numel()  # the head is tied to it
    scored = len(texts) * lm.n_layers
    tokens = sum(len(ids) - 1 for ids in tokenize(lm, texts)) + scored
    return 2 * inside * tokens + 2 * embedding.numel() * scored


@torch.no_grad()
def compare_dtypes(lm: LanguageModel) -> list[dict]:
    """Capture in both dtypes on the same prompts, in turn, and how often the next token differs."""
    short = load_model(MODEL, dtype="bfloat16")
    prompts = few_shot_prompts(get_task(CAPTURE_TASK), N_DEMOS, BATCH * CAPTURE_BATCHES, seed=0)
    ratios, differ = [], []
    for start in tqdm(range(0, len(prompts.texts), BATCH), desc="bfloat16"):
        batch = list(prompts.texts[start : start + BATCH])
        seconds = [timed(lambda model=model: capture(model, batch))[0] for model in (lm, short)]  # noqa: B023
        ratios.append(seconds[0] / seconds[1])
        tokens = [continue_greedily(model, batch, max_tokens=1).first_tokens for model in (lm, short)]
        differ += (tokens[0] != tokens[1]).tolist()
    case = f"capture of {len(differ)} prompts"
    return [
        row(case, "float32 / bfloat16", "ratio", ratios),
        row(case, "next token differs", "share", [pd.Series(differ).mean()]),
    ]


if __name__ == "__main__":
    main()
