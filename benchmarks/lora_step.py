"""A LoRA step on the first, middle and last third of the layers against the passes that it cannot do without.

Bitwise prompts of four demonstrations, eight in a batch, in float32, rank 16 on all linear modules. A step goes forward
and backward, clips the gradient and updates by AdamW. It needs a forward pass of all layers and a backward pass down to
the lowest trained one; these are measured on the same batch with the model as it is: its weights are frozen, and the
input of that layer needs a gradient. Both have the same loss, with logits for the answers' tokens alone. A forward pass
without any graph stands beside them, and the step on the first third in bfloat16. All are taken in turn, and each runs
once before its time is taken.

Run `python benchmarks/lora_step.py`; it takes about six minutes on two cores and adds to results/lora_step.csv.
"""

from collections.abc import Callable

import pandas as pd
import torch
from measure import append, row, timed
from tqdm import tqdm

from task_vectors.lm.finetuning import (
    Tuning,
    adapted,
    answer_loss,
    training_prompts,
    training_step,
)
from task_vectors.lm.models import LanguageModel, load_model
from task_vectors.lm.tokens import Tokens, whole_lines
from task_vectors.tasks.families.bitwise import bitwise_arithmetic

MODEL = "gemma-3-270m"
BATCH = 8  # prompts
N_DEMOS = 4
THIRDS = ("first", "middle", "last")
ROUNDS = 7


def main() -> None:
    append("lora_step", compare(load_model(MODEL), load_model(MODEL, dtype="bfloat16")))


def compare(lm: LanguageModel, half: LanguageModel) -> list[dict]:
    """Every third in turn, several times over, each beside its passes; the first in both precisions."""
    rounds = []
    for step in tqdm(range(ROUNDS + 1), desc=f"threads: {torch.get_num_threads()}"):
        found = {"forward": second_time(lambda: forward(lm, step))}  # noqa: B023
        for third in THIRDS:
            found |= seconds_of(lm, third, step)
        found["bfloat16"] = seconds_of(half, "first", step)["first step"]
        rounds.append(found)
    times = pd.DataFrame(rounds[1:])
    case = f"{BATCH} prompts of {N_DEMOS} demonstrations"
    return [
        row(case, "forward, no graph", "s", times.forward),
        *(row(case, f"{third} third, LoRA step", "s", times[f"{third} step"]) for third in THIRDS),
        *(row(case, f"{third} third, passes", "s", times[f"{third} passes"]) for third in THIRDS),
        *(
            row(case, f"{third} third, LoRA step / passes", "ratio", times[f"{third} step"] / times[f"{third} passes"])
            for third in THIRDS
        ),
        row(case, "first third, LoRA step in bfloat16", "s", times.bfloat16),
        row(case, "first third, LoRA step, float32 / bfloat16", "ratio", times["first step"] / times.bfloat16),
    ]


def seconds_of(lm: LanguageModel, third: str, step: int) -> dict[str, float]:
    tuning = tuning_of(lm, third)
    batch = batch_of(lm, tuning, step)
    with adapted(lm, tuning, training=True) as parameters:
        optimizer = torch.optim.AdamW(parameters.values(), weight_decay=0, fused=True)
        lora = second_time(lambda: training_step(lm, tuning, optimizer, step, batch))
    return {f"{third} step": lora, f"{third} passes": second_time(lambda: passes(lm, min(tuning.layers), batch))}


def batch_of(lm: LanguageModel, tuning: Tuning, step: int) -> Tokens:
    return whole_lines(lm, *training_prompts(bitwise_arithmetic(), tuning, step))


def tuning_of(lm: LanguageModel, third: str) -> Tuning:
    size = lm.n_layers // 3
    lowest = {"first": 0, "middle": (lm.n_layers - size) // 2, "last": lm.n_layers - size}[third]
    return Tuning(tuple(range(lowest, lowest + size)), batch=BATCH, n_demos=N_DEMOS)


def passes(lm: LanguageModel, lowest: int, batch: Tokens) -> float:
    """Forward, and backward to the input of layer `lowest`; no weight gets a gradient. The loss."""

    def start(_module, args: tuple) -> tuple:
        return (args[0].detach().requires_grad_(), *args[1:])

    lm.model.requires_grad_(False)
    handle = lm.layers[lowest].register_forward_pre_hook(start)
    try:
        loss = answer_loss(lm, batch)
    finally:
        handle.remove()
    loss.backward()
    return loss.item()


@torch.no_grad()
def forward(lm: LanguageModel, step: int) -> float:
    return answer_loss(lm, batch_of(lm, tuning_of(lm, "first"), step)).item()


def second_time(call: Callable[[], object]) -> float:
    """Seconds of the call, right after it has run once."""
    call()
    return timed(call)[0]


if __name__ == "__main__":
    main()
