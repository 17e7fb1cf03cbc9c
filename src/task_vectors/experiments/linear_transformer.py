"""What is recorded of the linear transformer: the risk of an ensemble, and the weights of its best model."""

import pandas as pd
import torch
from torch import Tensor

from task_vectors.linear_attention.model import Weights
from task_vectors.linear_attention.prompts import get_layout
from task_vectors.linear_attention.restricted import restrict
from task_vectors.linear_attention.spectrum import minimize_single, sample_spectra, spectral_risk
from task_vectors.linear_attention.training import Recipe, evaluate, train, train_restricted
from task_vectors.records.store import Comparison, Experiment, Record

SELECTION_SEED, TEST_SEED, CHECK_SEED = 1_000_001, 1_000_002, 1_000_003
SELECTION_PROMPTS, TEST_PROMPTS, CHECK_PROMPTS = 50_000, 200_000, 4_000
CHECK_STEPS = 1


def run(
    *, layout: str, n_layers: int, n: int, n_seeds: int, steps: int, penalty: float, batch: int = 500
) -> dict[str, object]:
    """Train seeds 0 … n_seeds - 1 (the single layout has no steps: L-BFGS ends by itself) and measure their risks.

    Tables: "risks" (seed; selection and risk, on prompts of their own; error of the risk; check, on a few more) and
    "history" (step, seed, risk of the batch) and, for layouts with a D, "restricted" (risk and error of the best seed's
    model after a quarter of the steps more, within the theorem's set). Tensors: "best", the weights of the seed with
    the least selection risk.
    """
    seeds = list(range(n_seeds))
    if layout == "single":
        return _run_single(n_layers, n, seeds)
    weights, history = train(layout, n_layers, n, seeds, Recipe(steps, batch, penalty=penalty))
    selection, _ = evaluate(weights, SELECTION_PROMPTS, SELECTION_SEED)
    risks, errors = _test(weights)
    check, _ = evaluate(weights, CHECK_PROMPTS, CHECK_SEED)
    best = int(selection.nan_to_num(torch.inf).argmin())
    chosen = weights.map(lambda tensor: tensor[best : best + 1])
    within = train_restricted(restrict(chosen), Recipe(steps // 4, batch, penalty=0.0)).weights()
    restricted = {name: value.tolist() for name, value in zip(("risk", "error"), _test(within), strict=True)}
    return {
        "risks": risk_table(seeds, selection, risks, errors, check),
        "history": history,
        "restricted": pd.DataFrame(restricted),
        "best": {name: tensor[0] for name, tensor in chosen.tensors().items()},
    }


def best_weights(record: Record) -> Weights:
    """The recorded weights, as an ensemble of one."""
    tensors = {name: tensor[None] for name, tensor in record.tensors("best").items()}
    return Weights(get_layout(record.parameters["layout"]), **tensors)


def best_risk(record: Record) -> pd.Series:
    """The row of the seed that other prompts chose."""
    table = record.table("risks")
    return table.loc[table["selection"].idxmin()]


def verify(record: Record) -> list[Comparison]:
    """The best weights' risk on a few prompts, and the risk that training starts from."""
    row, facts = best_risk(record), record.parameters
    if facts["layout"] == "single":
        sample = sample_spectra(CHECK_PROMPTS, facts["n"], CHECK_SEED)
        again = spectral_risk(record.tensors("best")["scales"][None], *sample)
        return [Comparison("risk of the best seed", row["check"], again.item(), 1e-6)]
    again, _ = evaluate(best_weights(record), CHECK_PROMPTS, CHECK_SEED)
    compared = [Comparison("risk of the best seed", row["check"], again.item(), 1e-3)]
    recipe = Recipe(facts["steps"], facts.get("batch", Recipe.batch), penalty=facts["penalty"])
    _, history = train(facts["layout"], facts["n_layers"], facts["n"], [0], recipe, stop=CHECK_STEPS)
    recorded = record.table("history").query("step == 0 and seed == 0")["risk"].item()
    return [*compared, Comparison("risk of seed 0 at the start", recorded, history["risk"].iloc[0], 1e-3)]


def _test(weights: Weights) -> tuple[Tensor, Tensor]:
    return evaluate(weights, TEST_PROMPTS, TEST_SEED)


def _run_single(n_layers: int, n: int, seeds: list[int]) -> dict[str, object]:
    scales = minimize_single(n_layers, n, seeds)
    selection = spectral_risk(scales, *sample_spectra(SELECTION_PROMPTS, n, SELECTION_SEED))
    check = spectral_risk(scales, *sample_spectra(CHECK_PROMPTS, n, CHECK_SEED))
    parts = [sample.chunk(100) for sample in sample_spectra(TEST_PROMPTS, n, TEST_SEED)]
    batches = torch.stack([spectral_risk(scales, *part) for part in zip(*parts, strict=True)])  # [batches, S]
    table = risk_table(seeds, selection, batches.mean(0), batches.std(0) / 10, check)
    return {"risks": table, "best": {"scales": scales[int(selection.nan_to_num(torch.inf).argmin())]}}


def risk_table(seeds, selection, risks, errors, check) -> pd.DataFrame:
    columns = {"selection": selection, "risk": risks, "error": errors, "check": check}
    return pd.DataFrame({"seed": seeds} | {name: tensor.tolist() for name, tensor in columns.items()})


RISKS = Experiment("linear_transformer", 1, run, verify)
