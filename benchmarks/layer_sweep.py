"""layer_sweep against one full forward per layer, and capture in bfloat16 against float32, each measured side by side.

The floor of a sweep is its floating-point operations at the rate of a large matrix product, taken in the same round.
Run `python benchmarks/layer_sweep.py`; it takes six minutes on two cores and adds to results/layer_sweep.csv.
"""

import pandas as pd
import torch
from measure import append, gemm_rate, row, timed
from torch import Tensor
from tqdm import tqdm

from task_vectors.lm.interventions import capture, continue_greedily, inject, layer_sweep
from task_vectors.lm.models import LanguageModel, load_model
from task_vectors.lm.tokens import pad, tokenize
from task_vectors.prompts.few_shot import few_shot_prompts
from task_vectors.tasks.catalog import get_task

MODEL = "gemma-3-270m"
BATCH = 8  # prompts
N_DEMOS = 10
# Prompts of person_to_language are about 90 tokens long, those of most tasks 65.
SWEEPS = {  # name: task, with demonstrations, batches
    "90-token prompts": ("person_to_language", True, 5),
    "65-token prompts": ("present_to_gerund", True, 3),
    "zero-shot prompts": ("person_to_language", False, 5),
}
CAPTURE_TASK, CAPTURE_BATCHES = "present_to_gerund", 4
LARGE = 2048  # rows of the square product


def main() -> None:
    lm = load_model(MODEL)
    rows = [row for name in SWEEPS for row in compare_sweeps(lm, name)]
    append("layer_sweep", rows + compare_dtypes(lm))


@torch.no_grad()
def compare_sweeps(lm: LanguageModel, case: str) -> list[dict]:
    """Both ways on the same batches, in turn: seconds, their ratio, the floor, and whether they agree."""
    task, with_demos, batches = SWEEPS[case]
    prompts = few_shot_prompts(get_task(task), N_DEMOS, BATCH * batches, seed=0)
    texts = list(prompts.texts) if with_demos else prompts.zero_shot_texts
    rounds = []
    for start in tqdm(range(0, len(texts), BATCH), desc=case):
        batch = texts[start : start + BATCH]
        vectors = capture(lm, list(prompts.vector_texts[start : start + BATCH]))  # [B, L, d]
        once, swept = timed(lambda: layer_sweep(lm, batch, vectors))  # noqa: B023
        each, slow = timed(lambda: one_forward_per_layer(lm, batch, vectors))  # noqa: B023
        floor = operations(lm, batch) / gemm_rate(LARGE, device=lm.device)
        equal = (swept.argmax(-1) == slow.argmax(-1)).float().mean().item()
        rounds.append((once, each, floor, equal, (swept - slow).abs().max().item()))
    found = pd.DataFrame(rounds, columns=["once", "each", "floor", "equal", "difference"])
    return [
        row(case, "layer_sweep", "s", found.once),
        row(case, "one forward per layer", "s", found.each),
        row(case, "floor", "s", found.floor),
        row(case, "one forward per layer / layer_sweep", "ratio", found.each / found.once),
        row(case, "layer_sweep / floor", "ratio", found.once / found.floor),
        row(case, "arg-max equal", "share", [found.equal.mean()]),
        row(case, "largest difference", "logits", [found.difference.max()]),
    ]


def one_forward_per_layer(lm: LanguageModel, texts: list[str], vectors: Tensor) -> Tensor:
    """What layer_sweep replaces: the last token's logits [B, L, V] from L forwards of the whole batch."""
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
