"""A training step of the small GPT against transformers' GPT-2, and against the rate of a large matrix product.

The default model (six layers, width 64, two heads, 21 tokens of 49 entries) on the default mixture, in float32: a
step draws its sequences, goes forward and backward, clips the gradient and updates by AdamW. All three models take it
in the same function, with the same weights at the start, in turn.

- transformers' GPT-2 as it comes: scaled_dot_product_attention, and GPT-2's approximation of the GELU (gelu_new). It
  is given vectors in place of words, without dropout and without a cache.
- The same with the exact GELU, which makes it the same function as ours.
- Operations: 6 a weight and token for what each block multiplies with, 12 d² weights in each of L blocks (2 forward, 4
  for the two gradients), and for the read-out; 4 for the read-in, whose input needs no gradient. Attention's own
  products (5 % more), norms, the GELU, the draws and the update are not counted, but take their time.
- Beside it: the rate of a large square product, taken in the same round.

Run `python benchmarks/regression_training.py`; it takes two minutes and adds to results/regression_training.csv.
"""

from collections.abc import Callable
from itertools import count

import pandas as pd
import torch
from measure import append, gemm_rate, row, thread_counts, timed
from torch import Tensor, nn
from tqdm import tqdm
from transformers import GPT2Config, GPT2Model

from task_vectors.regression import training
from task_vectors.regression.gpt import GPT
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.tokens import token_shape

MIXTURE = SparseMixture()
CHANGES = {}  # to the default recipe
BATCHES = (64, 128, 256)
RIVALS = {"transformers": "gelu_new", "transformers, exact GELU": "gelu"}
LARGE = 2048  # rows of the square product
ROUNDS = 7


class Transformers(nn.Module):
    """transformers' GPT-2 with the small GPT's interface, its read-in and read-out, and a copy of its weights."""

    def __init__(self, ours: GPT, activation: str):
        super().__init__()
        n_tokens, width = ours.positions.shape
        config = GPT2Config(
            vocab_size=1,
            n_positions=n_tokens,
            n_embd=width,
            n_layer=len(ours.blocks),
            n_head=ours.blocks[0].attention.n_heads,
            activation_function=activation,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
            **dict.fromkeys(("bos_token_id", "eos_token_id")),
            attn_implementation="sdpa",
        )
        self.read_in, self.read_out = (nn.Linear(*part.weight.shape[::-1]) for part in (ours.read_in, ours.read_out))
        self.body = GPT2Model(config)
        self.body.wte.requires_grad_(False)  # no word is read
        self.to(ours.positions.dtype)
        for name, part in ours.named_modules():
            if isinstance(part, nn.Linear | nn.LayerNorm):
                self._copy(name, part)
        with torch.no_grad():
            self.body.wpe.weight.copy_(ours.positions)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.body(inputs_embeds=self.read_in(tokens), use_cache=False).last_hidden_state  # [B, T, d]
        return self.read_out(states)[..., 0]

    @torch.no_grad()
    def _copy(self, name: str, part: nn.Module) -> None:
        if name in ("read_in", "read_out"):
            mine = self.get_submodule(name)
        elif name == "final_norm":
            mine = self.body.ln_f
        else:
            _, layer, inside = name.split(".", 2)
            mine = self.body.h[int(layer)].get_submodule(NAMES[inside])
        transposed = not isinstance(mine, nn.Linear | nn.LayerNorm)  # GPT-2's Conv1D is [in, out]
        mine.weight.copy_(part.weight.T if transposed else part.weight)
        mine.bias.copy_(part.bias)


NAMES = {  # in a block: ours, theirs
    "attention_norm": "ln_1",
    "attention.queries_keys_values": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "network_norm": "ln_2",
    "network_in": "mlp.c_fc",
    "network_out": "mlp.c_proj",
}


def main() -> None:
    append("regression_training", [row for _ in thread_counts() for batch in BATCHES for row in compare(batch)])


def compare(batch: int) -> list[dict]:
    """Every model in turn, several times over; each steps once before its time is taken."""
    steps = steppers(batch)
    rounds = []
    for _ in tqdm(range(ROUNDS + 1), desc=f"batch {batch}, threads: {torch.get_num_threads()}"):
        rounds.append({name: second_time(step) for name, step in steps.items()} | {"large": gemm_rate(LARGE)})
    found = pd.DataFrame(rounds[1:])
    case, rate = f"batch {batch}", operations(batch) / found.ours
    return [
        row(case, "ours", "ms", 1e3 * found.ours),
        *(row(case, name, "ms", 1e3 * found[name]) for name in RIVALS),
        *(row(case, f"{name} / ours", "ratio", found[name] / found.ours) for name in RIVALS),
        row(case, "operations of ours", "GFLOP/s", rate / 1e9),
        row(case, "large product", "GFLOP/s", found.large / 1e9),
        row(case, "operations of ours / large product", "share", rate / found.large),
    ]


def steppers(batch: int) -> dict[str, Callable[[], None]]:
    """A training step of ours and of each rival, on batches of so many sequences."""
    recipe = training.Recipe(**CHANGES, batch=batch)
    ours = training.build(recipe, MIXTURE.dim, seed=0)
    models = {"ours": ours} | {name: Transformers(ours, activation) for name, activation in RIVALS.items()}
    return {name: stepper(model, recipe) for name, model in models.items()}


def stepper(model: nn.Module, recipe: training.Recipe) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0, fused=True)
    weights, steps = training.position_weights(recipe.n_demos + 1), count()
    return lambda: training.training_step(model, optimizer, MIXTURE, recipe, weights, 0, next(steps))


def operations(batch: int) -> int:
    """Floating-point operations of ours that are counted in a step."""
    recipe = training.Recipe(**CHANGES)
    n_tokens, entries = token_shape(recipe.layout, recipe.n_demos + 1, MIXTURE.dim)
    weights = 6 * (12 * recipe.n_layers * recipe.width**2 + recipe.width) + 4 * entries * recipe.width
    return weights * n_tokens * batch


def second_time(call: Callable[[], object]) -> float:
    """Seconds of the call, right after it has run once."""
    call()
    return timed(call)[0]


if __name__ == "__main__":
    main()
