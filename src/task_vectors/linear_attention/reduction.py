"""What a task vector is worth: the single-demonstration reduction of Dong et al. 2026, eq. 10 and Fig. 4c.

A source prompt without a query gives the state of its last arrow after layer 1. That state, divided by its mean norm
over the batch as in the paper's script, becomes the arrow of a prompt that holds nothing else but x_query, and all
layers run. Its rival is ordinary one-shot learning, by models trained at n = 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from task_vectors.linear_attention.model import Weights, all_states
from task_vectors.linear_attention.prompts import prompt_states, sample_inputs, sample_tasks

INPUTS = ("line", "gaussian")
TASKS = ("rank one", "full rank")


@dataclass(frozen=True)
class Score:
    """Of each model [S]: the angle E || y_hat / ||y_hat|| - y / ||y|| ||^2, from 0 to 4 (guessing: 2), and the risk
    at the best scale, min_s E ||s y_hat - y||^2 / E ||y||^2, from 0 to 1.
    """

    angle: Tensor
    risk: Tensor


def sample_problem(n_prompts: int, n: int, d: int, inputs: str, task: str, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs X [B, n + 1, d] and tasks W [B, d, d]; a task of rank one is W = b a^T.

    "line" puts every x along that a, as the paper's script does (or along a random direction, at full rank); the task
    is then one-dimensional, and each answer is right or has the wrong sign.
    """
    if inputs not in INPUTS or task not in TASKS:
        raise ValueError(f"inputs must be one of {INPUTS} and task one of {TASKS}, got {inputs!r} and {task!r}")
    generator = torch.Generator().manual_seed(seed)
    X, W = sample_inputs(n_prompts, n, d, generator), sample_tasks(n_prompts, d, generator)
    a = torch.randn(n_prompts, d, generator=generator)  # [B, d]
    if task == "rank one":
        W = torch.randn(n_prompts, d, 1, generator=generator) * a[:, None]
    if inputs == "line":
        X = X[..., :1] * a[:, None]
    return X, W


@torch.no_grad()
def task_vector_score(weights: Weights, X: Tensor, W: Tensor) -> Score:
    """The zero-shot answer of every model with the source prompt's task vector put in."""
    layout, n, d = weights.layout, weights.n, X.shape[-1]
    arrow = int(layout.arrows(n)[-1])
    source, target = prompt_states(X, W, layout), torch.zeros_like(prompt_states(X, W, layout))
    source[:, layout.inputs(n)[-1]] = 0
    target[:, layout.inputs(n)[-1], :d] = X[:, -1]
    vectors = all_states(weights, source)[0][:, :, arrow]  # [S, B, 2d]
    target = target.repeat(len(vectors), 1, 1, 1)  # [S, B, T, 2d]
    target[:, :, arrow] = vectors / vectors.norm(dim=-1, keepdim=True).mean(1, keepdim=True)
    return _score(weights, target, X, W)


@torch.no_grad()
def icl_score(weights: Weights, X: Tensor, W: Tensor) -> Score:
    """The answer of every model to the whole prompt; with n = 1, one-shot learning."""
    return _score(weights, prompt_states(X, W, weights.layout), X, W)


def _score(weights: Weights, Z: Tensor, X: Tensor, W: Tensor) -> Score:
    answers = -all_states(weights, Z)[-1][:, :, -1, X.shape[-1] :]  # [S, B, d]
    true = (W @ X[:, -1, :, None])[..., 0]  # [B, d]
    cosines = torch.cosine_similarity(answers, true, dim=-1)  # [S, B]
    products, squares = (answers * true).sum(-1).mean(-1), answers.square().sum(-1).mean(-1)  # [S]
    return Score(2 - 2 * cosines.mean(-1), 1 - products.square() / (squares * true.square().sum(-1).mean()))
