"""A small language model that is pretrained on streams of discrete tasks, and looked at while it learns them.

A task is a hidden map: a permutation f of V symbols. A stream x_1 f(x_1) x_2 f(x_2) … has one map; the inputs are drawn
anew. Some maps are *seen*, in shares that fall from the first to the last, and a part of all streams has a map of its
own that never comes again. An input that stood before can be answered by copying, whatever the map. A new input can be
answered for seen maps alone, by a model that tells the map and knows it.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from task_vectors.lm.forward import layer_edits
from task_vectors.lm.models import LanguageModel
from task_vectors.measures.decodability import task_decodability
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.schedules import schedule

KINDS = ("seen", "unseen")
LOOK = 100  # streams of each map at a checkpoint
WARM_UP = 100  # steps
COOL_DOWN = 0.2  # of the steps, the last ones
CHECK_STEPS = 3
CHECK_SEED = 900_100


class Maps:
    """`n_maps` seen and as many unseen permutations of `n_symbols` symbols, and the streams that they make."""

    def __init__(self, n_symbols: int, n_maps: int, fresh: float, seed: int):
        rng = np.random.default_rng(seed)
        tables = np.stack([rng.permutation(n_symbols) for _ in range(2 * n_maps)])
        seen, unseen = torch.from_numpy(tables).split(n_maps)
        self.tables = {"seen": seen, "unseen": unseen}  # [n_maps, n_symbols] each
        self.n_symbols, self.fresh = n_symbols, fresh
        self.shares = 1 / torch.arange(1, n_maps + 1)  # of streams, up to a factor

    def streams(self, batch: int, n_pairs: int, generator: torch.Generator) -> Tensor:
        """Token ids [batch, 2 n_pairs] to train on: seen maps by their shares, and fresh ones."""
        chosen = torch.multinomial(self.shares, batch, replacement=True, generator=generator)
        own = torch.rand(batch, self.n_symbols, generator=generator).argsort(1)  # [batch, n_symbols]
        is_fresh = torch.rand(batch, 1, generator=generator) < self.fresh
        tables = torch.where(is_fresh, own, self.tables["seen"][chosen])
        x = torch.randint(self.n_symbols, (batch, n_pairs), generator=generator)
        return torch.stack([x, tables.gather(1, x)], 2).flatten(1)

    def questions(self, kind: str, n_demos: int, size: int, seed: int, copied: bool) -> tuple[Tensor, Tensor]:
        """Prompts [n_maps · size, 2 n_demos + 1] with the same inputs for every map, map after map, and answers.

        The inputs differ; the query is one of the demonstrations' inputs where `copied`, else another one.
        """
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(size, self.n_symbols, generator=generator).argsort(1)[:, : n_demos + 1]  # [size, n_demos + 1]
        if copied:
            x[:, -1] = x.gather(1, torch.randint(n_demos, (size, 1), generator=generator))[:, 0]
        tables = self.tables[kind].repeat_interleave(size, 0)  # [n_maps · size, n_symbols]
        x = x.repeat(len(self.tables[kind]), 1)
        y = tables.gather(1, x)
        return torch.stack([x, y], 2).flatten(1)[:, :-1], y[:, -1]


def run(
    *,
    seed: int,
    n_symbols: int,
    n_maps: int,
    fresh: float,
    n_pairs: int,
    n_demos: int,
    n_layers: int,
    width: int,
    steps: int,
    batch: int,
    rate: float,
    looks: list[int],
    kept: list[int],
) -> dict[str, object]:
    """Pretrain one seed, and look at it after the steps in `looks`; the models after the steps in `kept` are recorded.

    Tables, by step: "accuracy" (maps, answer, map, accuracy; maps are seen or unseen, answers new or copied) and
    "decodability" (maps, layer, map, td) of the state at a new query. Tensors: "losses" (of each step), and each kept
    model, bfloat16, as "checkpoint_<step>".
    """
    maps, lm = Maps(n_symbols, n_maps, fresh, seed), build(n_symbols, n_pairs, n_layers, width, seed)
    optimizer = torch.optim.AdamW(lm.model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    losses, tables, checkpoints = [], {"accuracy": [], "decodability": []}, {}
    for step in tqdm(range(steps + 1), desc=f"seed {seed}", mininterval=5):
        if step in looks:
            for name, table in look(lm, maps, n_demos).items():
                tables[name].append(table.assign(step=step))
        if step in kept:
            weights = {name: weight.to(torch.bfloat16, copy=True) for name, weight in lm.model.named_parameters()}
            checkpoints[f"checkpoint_{step:06d}"] = weights
        if step < steps:
            now = rate * schedule(step, steps, WARM_UP, COOL_DOWN)
            losses.append(_step(lm.model, optimizer, maps, n_pairs, batch, now, seed, step))
    found = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return found | {"losses": {"losses": torch.tensor(losses)}} | checkpoints


def build(n_symbols: int, n_pairs: int, n_layers: int, width: int, seed: int) -> LanguageModel:
    """A Llama of this size with its first weights; its tokens are the symbols."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=n_symbols,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=n_layers,
            num_attention_heads=max(1, width // 32),
            max_position_embeddings=2 * n_pairs + 1,
            initializer_range=width**-0.5,
            bos_token_id=None,
            eos_token_id=None,
        )
        return LanguageModel(f"streams, seed {seed}", LlamaForCausalLM(config), None)


@torch.no_grad()
def look(lm: LanguageModel, maps: Maps, n_demos: int) -> dict[str, pd.DataFrame]:
    """Tables "accuracy" and "decodability" of one checkpoint."""
    accuracy, decodability = [], []
    for kind in KINDS:
        n_maps = len(maps.tables[kind])
        labels, groups = torch.arange(n_maps).repeat_interleave(LOOK), torch.arange(LOOK).repeat(n_maps)
        for copied in (False, True):
            prompts, answers = maps.questions(kind, n_demos, LOOK, CHECK_SEED, copied)
            states, logits = read(lm, prompts)
            right = (logits.argmax(-1) == answers).float().view(n_maps, LOOK).mean(1)
            answer = "copied" if copied else "new"
            accuracy += [(kind, answer, k, share) for k, share in enumerate(right.tolist())]
            if not copied:
                td = task_decodability(states, labels, groups=groups)  # [L, n_maps]
                decodability += [(kind, i + 1, k, v) for i, row in enumerate(td.tolist()) for k, v in enumerate(row)]
    return {
        "accuracy": pd.DataFrame(accuracy, columns=["maps", "answer", "map", "accuracy"]),
        "decodability": pd.DataFrame(decodability, columns=["maps", "layer", "map", "td"]),
    }


def read(lm: LanguageModel, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """States after each layer [B, L, d] and logits [B, V] at the last token of prompts [B, T]."""
    states = []
    with layer_edits(lm, {layer: lambda hidden: states.append(hidden[:, -1]) for layer in range(lm.n_layers)}):
        logits = lm.model(prompts, use_cache=False, logits_to_keep=1).logits[:, -1]
    return torch.stack(states, 1), logits


def verify(record: Record) -> list[Comparison]:
    """The first losses, and what the last checkpoint (in bfloat16) answers."""
    facts = record.parameters
    maps = Maps(facts["n_symbols"], facts["n_maps"], facts["fresh"], facts["seed"])
    lm = build(*(facts[name] for name in ("n_symbols", "n_pairs", "n_layers", "width", "seed")))
    optimizer = torch.optim.AdamW(lm.model.parameters(), lr=facts["rate"], betas=(0.9, 0.98), weight_decay=0.01)
    compared = []
    for step, before in enumerate(record.tensors("losses")["losses"][:CHECK_STEPS].tolist()):
        rate = facts["rate"] * schedule(step, facts["steps"], WARM_UP, COOL_DOWN)
        again = _step(lm.model, optimizer, maps, facts["n_pairs"], facts["batch"], rate, facts["seed"], step)
        compared.append(Comparison(f"loss of step {step}", before, again, 1e-3))
    last = max(facts["kept"])
    tables = look(checkpoint(record, last), maps, facts["n_demos"])
    for name, column in (("accuracy", "accuracy"), ("decodability", "td")):
        before = record.table(name).query("step == @last")[column].mean()
        compared.append(Comparison(f"{column} after {last} steps", before, tables[name][column].mean(), 0.05))
    return compared


def checkpoint(record: Record, step: int) -> LanguageModel:
    """The recorded model after so many steps."""
    facts = record.parameters
    lm = build(*(facts[name] for name in ("n_symbols", "n_pairs", "n_layers", "width", "seed")))
    weights = {name: weight.float() for name, weight in record.tensors(f"checkpoint_{step:06d}").items()}
    lm.model.load_state_dict(weights)
    return lm


def _step(model, optimizer, maps: Maps, n_pairs: int, batch: int, rate: float, seed: int, step: int) -> float:
    generator = torch.Generator().manual_seed(seed * 1_000_000 + step)
    ids = maps.streams(batch, n_pairs, generator)
    for group in optimizer.param_groups:
        group["lr"] = rate
    logits = model(ids[:, :-1], use_cache=False).logits[:, ::2]  # [B, n_pairs, V], after each input
    loss = cross_entropy(logits.flatten(0, 1), ids[:, 1::2].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


PRETRAINING = Experiment("pretraining", 1, run, verify)
