"""layer_sweep against one full forward per layer, and capture in bfloat16 against float32, each measured side by side.

Run `python benchmarks/layer_sweep.py`; it takes 13 minutes on two cores and writes results/layer_sweep.csv.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from task_vectors.batches import pad, tokenize
from task_vectors.interventions import capture, continue_greedily, inject, layer_sweep
from task_vectors.models import LanguageModel, load_model
from task_vectors.prompts import few_shot_prompts
from task_vectors.records import environment
from task_vectors.tasks import get_task

MODEL = "gemma-3-270m"
BATCH = 8  # prompts
N_DEMOS = 10
# Prompts of person_to_language are about 90 tokens long, those of most tasks 65.
SWEEPS = {  # name: task, with demonstrations, batches
    "90-token prompts": ("person_to_language", True, 13),
    "65-token prompts": ("present_to_gerund", True, 3),
    "zero-shot prompts": ("person_to_language", False, 13),
}
CAPTURE_TASK, CAPTURE_BATCHES = "present_to_gerund", 6
RESULTS = Path(__file__).parent / "results" / "layer_sweep.csv"


def main() -> None:
    lm = load_model(MODEL)
    gemm = gemm_rate(lm, torch.float32)
    rows = {
        "float32 matrix product [GFLOP/s]": gemm / 1e9,
        "bfloat16 matrix product [GFLOP/s]": gemm_rate(lm, torch.bfloat16, size=1024, repeats=3) / 1e9,
    }
    for name, (task, with_demos, batches) in SWEEPS.items():
        rows |= {f"{name}: {key}": value for key, value in compare_sweeps(lm, gemm, task, with_demos, batches).items()}
    rows |= {f"bfloat16 capture: {key}": value for key, value in compare_dtypes(lm).items()}
    table = pd.DataFrame({"name": rows.keys(), "value": rows.values()})
    RESULTS.parent.mkdir(exist_ok=True)
    where = {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    table.assign(model=MODEL, **where, **environment()).to_csv(RESULTS, index=False)
    print(table.to_string(index=False, header=False, float_format=lambda value: f"{value:.4g}"))
    print(f"Written to {RESULTS}")


@torch.no_grad()
def compare_sweeps(lm: LanguageModel, gemm: float, task: str, with_demos: bool, batches: int) -> dict[str, float]:
    """Both ways on the same batches, in turn: seconds, their ratio, its floor, and whether they agree."""
    prompts = few_shot_prompts(get_task(task), N_DEMOS, BATCH * batches, seed=0)
    texts = list(prompts.texts) if with_demos else prompts.zero_shot_texts
    measured, ratios = [], []
    for start in tqdm(range(0, len(texts), BATCH), desc=f"{task}, {N_DEMOS if with_demos else 0} demonstrations"):
        batch = texts[start : start + BATCH]
        vectors = capture(lm, list(prompts.vector_texts[start : start + BATCH]))  # [B, L, d]
        once, swept = timed(lm, lambda: layer_sweep(lm, batch, vectors))  # noqa: B023
        each, slow = timed(lm, lambda: one_forward_per_layer(lm, batch, vectors))  # noqa: B023
        ratios.append(each / once)
        measured.append(
            {
                "sweep [s]": once,
                "one forward per layer [s]": each,
                "floor of the sweep [s]": floor(lm, batch) / gemm,
                "tokens in a prompt": sum(map(len, tokenize(lm, batch))) / len(batch),
                "arg-max equal": (swept.argmax(-1) == slow.argmax(-1)).float().mean().item(),
                "largest logit difference": (swept - slow).abs().max().item(),
            }
        )
    table = pd.DataFrame(measured)
    medians = table.drop(columns=["arg-max equal", "largest logit difference"]).median()
    return {
        "times faster, median": pd.Series(ratios).median(),
        "times faster, 20th percentile": pd.Series(ratios).quantile(0.2),
        "times faster, 80th percentile": pd.Series(ratios).quantile(0.8),
        **medians,
        "floor over sweep": (table["floor of the sweep [s]"] / table["sweep [s]"]).median(),
        "prompts": len(texts),
        "arg-max equal": table["arg-max equal"].mean(),
        "largest logit difference": table["largest logit difference"].max(),
    }


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


def floor(lm: LanguageModel, texts: list[str]) -> float:
    """Floating-point operations that a sweep cannot do without (attention's own, under 1 %, left out).

    2 a parameter and token for every token before the last, and for the last one L times; 2 V d for each row of logits.
    """
    embedding = lm.model.get_input_embeddings().weight
    inside = sum(weight.numel() for weight in lm.model.parameters()) - embedding.numel()  # the head is tied to it
    scored = len(texts) * lm.n_layers
    tokens = sum(len(ids) - 1 for ids in tokenize(lm, texts)) + scored
    return 2 * inside * tokens + 2 * embedding.numel() * scored


def gemm_rate(lm: LanguageModel, dtype: torch.dtype, size: int = 2048, repeats: int = 9) -> float:
    """Operations a second of a large matrix product, where the model runs."""
    a = torch.randn(size, size, device=lm.device).to(dtype)
    seconds = [timed(lm, lambda: a @ a)[0] for _ in range(repeats)]
    return 2 * size**3 / pd.Series(seconds).median()


@torch.no_grad()
def compare_dtypes(lm: LanguageModel) -> dict[str, float]:
    """Capture in both dtypes on the same prompts, in turn, and how often the next token differs."""
    short = load_model(MODEL, dtype="bfloat16")
    prompts = few_shot_prompts(get_task(CAPTURE_TASK), N_DEMOS, BATCH * CAPTURE_BATCHES, seed=0)
    ratios, differ = [], []
    for start in tqdm(range(0, len(prompts.texts), BATCH), desc="bfloat16"):
        batch = list(prompts.texts[start : start + BATCH])
        seconds = [timed(lm, lambda model=model: capture(model, batch))[0] for model in (lm, short)]  # noqa: B023
        ratios.append(seconds[0] / seconds[1])
        tokens = [continue_greedily(model, batch, max_tokens=1).first_tokens for model in (lm, short)]
        differ += (tokens[0] != tokens[1]).tolist()
    return {
        "times faster than float32, median": pd.Series(ratios).median(),
        "times faster than float32, 20th percentile": pd.Series(ratios).quantile(0.2),
        "times faster than float32, 80th percentile": pd.Series(ratios).quantile(0.8),
        "prompts": len(differ),
        "next token differs": pd.Series(differ).mean(),
    }


def timed(lm: LanguageModel, call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds and result."""
    wait = torch.cuda.synchronize if lm.device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    result = call()
    wait()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
