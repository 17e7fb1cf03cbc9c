"""LoRA on a chosen band of layers, trained to answer a task family's few-shot prompts (Han et al. 2025, section 4).

A step's prompts and its dropout come from seeds of that step alone: on one machine a run that was stopped goes on to
the same adapter to the bit. Below the lowest trained layer nothing needs a gradient, and nothing can change.

The model has an adapter while `train` runs and inside `tuned`; before and after, it is the one that all others use.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers.pytorch_utils import Conv1D

from task_vectors.checkpoints import (
    CheckpointError,
    TrainingDiverged,
    claimed,
    read_tensors,
    resume,
    save_checkpoint,
    write_tensors,
)
from task_vectors.lm.forward import logits_where
from task_vectors.lm.models import LanguageModel, layer_path
from task_vectors.lm.tokens import Tokens, check_context, pad, whole_lines
from task_vectors.prompts.few_shot import completion, render
from task_vectors.tasks.families.family import TaskFamily

ALL_LINEAR = "all-linear"
MAX_NORM = 1.0  # of the gradient
FIRST_SEED = 10**12  # of training prompts: far above those of evaluation
ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class Tuning:
    """Which layers get an adapter, and how it is trained: AdamW, the rate warmed up and taken linearly to zero.

    layers: counted from 0. targets: names of linear modules, such as ("q_proj", "v_proj"), or all of a layer's.
    n_demos: demonstrations in each prompt.
    """

    layers: tuple[int, ...]
    rank: int = 16
    alpha: float = 16
    dropout: float = 0.1
    targets: str | tuple[str, ...] = ALL_LINEAR
    steps: int = 1250
    batch: int = 8  # prompts, fresh in every step
    rate: float = 1e-3
    warm_up: int = 60  # steps
    n_demos: int = 4
    seed: int = 0

    def __post_init__(self):
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers must name at least one layer, and each once; got {self.layers}")
        if min(self.rank, self.batch, self.steps - self.warm_up) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"rank and batch must be 1 or more, steps over warm_up, dropout under 1; got {self}")
        if min(self.warm_up, self.n_demos, self.seed) < 0:
            raise ValueError(f"warm_up, n_demos and seed must be 0 or more; got {self}")


def tuning_of(facts: dict) -> Tuning:
    """From what JSON holds, which has no tuples."""
    return Tuning(**{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()})


class Adapter(NamedTuple):
    """A trained adapter: its weights in float32 on the CPU, by the names under which peft reads and writes them."""

    tuning: Tuning
    weights: dict[str, Tensor]


def bands(n_layers: int, td_layer: int, size: int = 6) -> dict[str, tuple[int, ...]]:
    """Bands of layers to train, by name, for a Task Decodability that is read after layer td_layer, counted from 0.

    "up to TD" ends at that layer, "after TD" begins right above it; each is shorter where there are too few layers.
    """
    if not 0 <= td_layer < n_layers or not 1 <= size <= n_layers:
        raise ValueError(f"there is no layer {td_layer}, or no band of {size} layers, in a model of {n_layers} layers")
    return {
        "first": tuple(range(size)),
        "up to TD": tuple(range(max(0, td_layer + 1 - size), td_layer + 1)),
        "after TD": tuple(range(td_layer + 1, min(n_layers, td_layer + 1 + size))),
        "last": tuple(range(n_layers - size, n_layers)),
        "all": tuple(range(n_layers)),
    }


def target_modules(lm: LanguageModel, tuning: Tuning) -> list[str]:
    """Paths of the modules that get an adapter. ValueError for layers or targets that the model does not have."""
    if hasattr(lm.model, "peft_config"):
        raise ValueError(f"{lm.name} has an adapter already: only one at a time can be on a model")
    if any(weight.is_meta for weight in lm.model.parameters()):
        raise ValueError(f"{lm.name} is loaded piece by piece as it runs: an adapter needs all weights in place")
    if outside := [layer for layer in tuning.layers if not 0 <= layer < lm.n_layers]:
        raise ValueError(f"layers {outside} are not among 0 … {lm.n_layers - 1} of {lm.name}")
    path, found = layer_path(lm.model.config.model_type, lm.name), []
    for layer in tuning.layers:
        linear = [name for name, module in lm.layers[layer].named_modules() if isinstance(module, nn.Linear | Conv1D)]
        known = {name.rpartition(".")[2] for name in linear}
        wanted = known if tuning.targets == ALL_LINEAR else set(tuning.targets)
        if not wanted or wanted - known:
            raise ValueError(f"targets {tuning.targets} are not among {sorted(known)} of layer {layer} of {lm.name}")
        found += [f"{path}.{layer}.{name}" for name in linear if name.rpartition(".")[2] in wanted]
    return found


def n_trained_parameters(lm: LanguageModel, tuning: Tuning) -> int:
    """Numbers in the adapter: A [rank, in] and B [out, rank] for each module."""
    modules = [lm.model.get_submodule(name) for name in target_modules(lm, tuning)]
    return tuning.rank * sum(sum(module.weight.shape) for module in modules)


def training_prompts(family: TaskFamily, tuning: Tuning, step: int) -> tuple[list[str], list[str]]:
    """Texts and completions of a step: queries of the part "train"; the tasks, without Null, take turns."""
    texts, completions = [], []
    for number in range(step * tuning.batch, (step + 1) * tuning.batch):
        task, seed = family.tasks[number % (len(family.tasks) - 1)], FIRST_SEED * (tuning.seed + 1) + number
        demos = family.sample(task, tuning.n_demos, seed, "demonstrations")
        [(query, answer)] = family.sample(task, 1, seed, "train")
        texts.append(render(family.template, tuple(demos), query))
        completions.append(completion(family.template, answer))
    return texts, completions


def answer_loss(lm: LanguageModel, batch: Tokens) -> Tensor:
    """Mean cross-entropy of the tokens of the answers and of the end of the line after each."""
    prompts, tails = batch
    # Nothing comes after a line's end, so its token is predicted and not read.
    ids, real = pad(lm, [prompt + tail[:-1] for prompt, tail in zip(prompts, tails, strict=True)], left=False)  # [B, T]
    last = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=ids.device)  # [B, 1]
    # From the prompt's last token on, each token predicts the answer's next one, and at last the end of the line.
    asked = (torch.arange(ids.shape[1], device=ids.device) >= last) & real.bool()  # [B, T]
    targets = torch.tensor([token for tail in tails for token in tail])
    with logits_where(lm, asked):
        logits = lm.model(ids, use_cache=False).logits[0]  # [tokens, V]
    return cross_entropy(logits.float(), targets.to(logits.device))


def train(
    lm: LanguageModel,
    family: TaskFamily,
    tuning: Tuning,
    folder: Path | None = None,
    every: int = 50,
    stop: int | None = None,
) -> tuple[Adapter, Tensor, float]:
    """The adapter, the loss of each step, [steps], and the seconds that it took, of all attempts together.

    With a folder, a checkpoint is kept there every `every` steps, and the last step's adapter, for `tuned`. Where it
    holds the beginning of this run, training goes on from there. `stop` ends the run early, at the same schedule.

    Raises ValueError before the first forward pass for layers or targets that are not there, too long prompts, or a
    folder of another run; CheckpointError where another process trains in the folder; TrainingDiverged for a loss or
    gradient that is not finite: the last checkpoint stays.
    """
    stop = tuning.steps if stop is None else stop
    run = json.dumps([lm.name, str(lm.model.dtype), repr(family), asdict(tuning)])
    with claimed(folder) if folder else nullcontext(), adapted(lm, tuning, training=True) as parameters:
        optimizer = torch.optim.AdamW(parameters.values(), weight_decay=0, fused=True)
        losses, seconds = resume(folder, run, parameters, optimizer) if folder else ([], 0.0)
        started = time.monotonic() - seconds
        steps = range(len(losses), stop)
        batches = []
        for step in tqdm(steps, desc="prompts", mininterval=5):
            batches.append(whole_lines(lm, *training_prompts(family, tuning, step)))
            check_context(lm, batches[-1])
        progress = tqdm(steps, initial=len(losses), total=stop, desc=f"LoRA, seed {tuning.seed}", mininterval=5)
        for step, batch in zip(progress, batches, strict=True):
            losses.append(training_step(lm, tuning, optimizer, step, batch))
            if folder and ((step + 1) % every == 0 or step + 1 == stop):
                save_checkpoint(folder, run, parameters, optimizer, losses, time.monotonic() - started)
        weights = {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}
        if folder and len(losses) == tuning.steps:
            write_tensors(folder / ADAPTER, weights, run)
    return Adapter(tuning, weights), torch.tensor(losses), time.monotonic() - started


def training_step(lm: LanguageModel, tuning: Tuning, optimizer, step: int, batch: Tokens) -> float:
    """One update of the adapter that is on the model, and the loss before it."""
    [group] = optimizer.param_groups
    left = (tuning.steps - step) / (tuning.steps - tuning.warm_up)
    group["lr"] = tuning.rate * min((step + 1) / max(1, tuning.warm_up), left, 1)
    with _seeded(tuning.seed * 1_000_000 + step):
        loss = answer_loss(lm, batch)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(group["params"], MAX_NORM)
    if not (loss + norm).isfinite():
        raise TrainingDiverged(
            f"the loss of step {step} is {loss:.3g}, its gradient's norm {norm:.3g} (seed {tuning.seed}, "
            f"rate {tuning.rate}): use a lower rate"
        )
    optimizer.step()
    return loss.item()


@contextmanager
def adapted(lm: LanguageModel, tuning: Tuning, training: bool = False) -> Iterator[dict[str, nn.Parameter]]:
    """While inside, lm has an adapter that changes nothing yet (B = 0): its parameters by name. All others are frozen.

    With `training`, they need gradients and the adapter's dropout is on; the model's own never is.
    """
    names = target_modules(lm, tuning)
    before = {name: lm.model.get_submodule(name) for name in names}
    needed = [(parameter, parameter.requires_grad) for parameter in lm.model.parameters()]
    config = LoraConfig(r=tuning.rank, lora_alpha=tuning.alpha, lora_dropout=tuning.dropout, target_modules=names)
    config.fan_in_fan_out = isinstance(before[names[0]], Conv1D)  # GPT-2's, [in, out]
    try:
        with _seeded(tuning.seed):
            inject_adapter_in_model(config, lm.model)
        for name in names:
            lm.model.get_submodule(name).lora_dropout.train(training)
        parameters = {name: parameter for name, parameter in lm.model.named_parameters() if parameter.requires_grad}
        for parameter in parameters.values():
            parameter.data = parameter.data.float()  # whatever the model's precision
            parameter.requires_grad_(training)
        yield {f"base_model.model.{name.replace('.default.', '.')}": value for name, value in parameters.items()}
    finally:
        # The modules themselves, and not peft's unload(), which is not there where the injection fails halfway.
        for name, module in before.items():
            lm.model.set_submodule(name, module)
        vars(lm.model).pop("peft_config", None)
        for parameter, flag in needed:
            parameter.requires_grad_(flag)


@contextmanager
def tuned(lm: LanguageModel, adapter: Adapter | Path) -> Iterator[LanguageModel]:
    """While inside, lm has the adapter, or that of a folder, for evaluation; afterwards it is exactly what it was."""
    adapter = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    with adapted(lm, adapter.tuning) as parameters:
        _fill(parameters, adapter.weights)
        yield lm


def load_adapter(folder: Path) -> Adapter:
    """The adapter of a training that has come to its end; CheckpointError for a file that is damaged or none."""
    if not (file := Path(folder) / ADAPTER).is_file():
        raise FileNotFoundError(f"{file} is missing: the training in this folder has not come to its end")
    tensors = read_tensors(file)  # a damaged header is told by the digest, before anything of it is used
    try:
        return Adapter(tuning_of(json.loads(safe_open(file, "pt").metadata()["run"])[-1]), tensors)
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} is not an adapter ({type(error).__name__} in its header)") from None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def _fill(parameters: dict[str, nn.Parameter], weights: dict[str, Tensor]) -> None:
    if {name: tensor.shape for name, tensor in weights.items()} != {name: p.shape for name, p in parameters.items()}:
        raise ValueError("the adapter belongs to another model or tuning: names or shapes of its weights differ")
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])
