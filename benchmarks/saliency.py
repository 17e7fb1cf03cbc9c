"""attention_saliency against autograd through eager attention: time, and peak memory.

The rival asks the model for its attention weights, keeps the gradient of each, and multiplies; it is spared what it
does not need: weights are frozen, and logits are made for the last token only. Times are taken in turn in one process,
beside the floor: forward and backward alone, by `scaled_dot_product_attention`, down to the embeddings. Memory is
measured in a process for each form and repetition: the peak of the resident memory during one call, less that before
it, when the model is loaded and has run on a short text.

Run `python benchmarks/saliency.py` (Linux); it takes six minutes and adds to results/saliency.csv.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch
from measure import append, row, timed
from torch import Tensor, nn
from tqdm import tqdm

from task_vectors.lm.models import LanguageModel, load_model
from task_vectors.lm.saliency import attention_saliency
from task_vectors.lm.tokens import tokenize

MODEL = "smollm2-135m"
TOKENS = (128, 512)
ROUNDS, MEMORY_ROUNDS = 7, 6
TEXT = "Example: go -> going\n" * 500


def main() -> None:
    lm = load_model(MODEL)
    append("saliency", [row for tokens in TOKENS for row in [*compare_times(lm, tokens), *compare_memory(tokens)]])


def compare_times(lm: LanguageModel, tokens: int) -> list[dict]:
    text, target = prompt(lm, tokens)
    rounds = []
    for _ in tqdm(range(ROUNDS + 1), desc=f"{tokens} tokens"):
        results = {name: timed(lambda form=form: form(lm, text, target)) for name, form in FORMS.items()}
        rounds.append({name: seconds for name, (seconds, _) in results.items()})
    times, case = pd.DataFrame(rounds[1:]), f"{tokens} tokens"
    found, expected = results["ours"][1], results["eager"][1]
    difference = ((found - expected).abs().max() / expected.max()).item()
    return [
        row(case, "ours", "s", times.ours),
        row(case, "eager autograd", "s", times.eager),
        row(case, "forward and backward", "s", times.floor),
        row(case, "eager autograd / ours", "ratio", times.eager / times.ours),
        row(case, "ours / forward and backward", "ratio", times.ours / times.floor),
        row(case, "largest difference", "of the largest entry", [difference]),
    ]


def compare_memory(tokens: int) -> list[dict]:
    rounds = []
    for _ in tqdm(range(MEMORY_ROUNDS), desc=f"{tokens} tokens, memory"):
        rounds.append({form: peak_of_a_process(form, tokens) for form in ("ours", "eager")})
    peaks, case = pd.DataFrame(rounds), f"{tokens} tokens"
    return [
        row(case, "ours, peak", "MB", peaks.ours),
        row(case, "eager autograd, peak", "MB", peaks.eager),
        row(case, "eager autograd, peak / ours, peak", "ratio", peaks.eager / peaks.ours),
    ]


def ours(lm: LanguageModel, text: str, target: str) -> Tensor:
    lm.model.requires_grad_()  # as it comes
    return attention_saliency(lm, text, target)


def eager(lm: LanguageModel, text: str, target: str) -> Tensor:
    """Σ_heads |A ∘ ∂loss/∂A| [L, T, T] by autograd, with every A and its gradient in memory."""
    run = forward(lm, text, "eager", output_attentions=True)
    for weights in run.attentions:  # each [1, H, T, T]
        weights.retain_grad()
    loss(lm, run, text, target).backward()
    return torch.stack([(weights * weights.grad).abs().sum(1)[0] for weights in run.attentions])


def forward_and_backward(lm: LanguageModel, text: str, target: str) -> None:
    loss(lm, forward(lm, text, "sdpa"), text, target).backward()


FORMS = {"ours": ours, "eager": eager, "floor": forward_and_backward}


def forward(lm: LanguageModel, text: str, attention: str, **options):
    lm.model.requires_grad_(False).set_attn_implementation(attention)
    ids = torch.tensor(tokenize(lm, [text]), device=lm.device)
    states = lm.model.get_input_embeddings()(ids).requires_grad_()  # [1, T, d]
    return lm.model(inputs_embeds=states, use_cache=False, logits_to_keep=1, **options)


def loss(lm: LanguageModel, run, text: str, target: str) -> Tensor:
    answer = tokenize(lm, [text + target])[0][-1]
    return nn.functional.cross_entropy(run.logits[0], torch.tensor([answer], device=lm.device))


def prompt(lm: LanguageModel, tokens: int) -> tuple[str, str]:
    """A text of so many tokens, and the token that comes next."""
    ids = tokenize(lm, [TEXT])[0]
    text, longer = (lm.tokenizer.decode(ids[:length], skip_special_tokens=True) for length in (tokens, tokens + 1))
    return text, longer.removeprefix(text)


def peak_of_a_process(form: str, tokens: int) -> float:
    """Peak memory (MB) of one call in a process of its own."""
    command = [sys.executable, __file__, MODEL, form, str(tokens)]
    return float(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.split()[-1])


def peak_memory(model: str, form: str, tokens: int) -> float:
    lm = load_model(model)
    # Weights lie in a file until they are read, and libraries load what they need when they are first called.
    FORMS[form](lm, *prompt(lm, 8))
    text, target = prompt(lm, tokens)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    FORMS[form](lm, text, target)
    return (resident("VmHWM") - before) / 1e3


def resident(name: str) -> int:
    """kB, from the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        model, form, tokens = sys.argv[1:]
        print(peak_memory(model, form, int(tokens)))
    else:
        main()
