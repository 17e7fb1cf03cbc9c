"""The records of linear transformers as the arrays and tables of a page."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from task_vectors.experiments.linear_transformer import best_risk, best_weights
from task_vectors.linear_attention.prompts import get_layout
from task_vectors.linear_attention.theory import Projection, live_keys, project
from task_vectors.measures.seeds import drawn_best
from task_vectors.paths import project_root
from task_vectors.records.store import Record

Records = Mapping[tuple[str, int, int], Record]  # of linear_transformer, by layout, layers and demonstrations
LINES = ("single, one layer less", "pairs", "triplets", "single")  # beside each other, at each depth
PARTS = ("learned", "join x and y", "sums on arrows", "unexplained")


def line_of(line: str, n_layers: int) -> tuple[str, int]:
    """Layout and layers of one of LINES."""
    return ("single", n_layers - 1) if line == LINES[0] else (line, n_layers)


def risk_table(records: Records, depths: Iterable[int]) -> pd.DataFrame:
    """Columns layers, layout (one of LINES), n, risk (of each seed that did not diverge), best (of the chosen one)."""
    rows = []
    for n_layers in depths:
        for line in LINES:
            for (layout, depth, n), record in records.items():
                if (layout, depth) != line_of(line, n_layers):
                    continue
                named = {"layers": f"{n_layers} layers", "layout": line, "n": n, "best": best_risk(record).risk}
                rows += [named | {"risk": risk} for risk in record.table("risks").risk if np.isfinite(risk)]
    return pd.DataFrame(rows)


def best_risks(records: Records, n_layers: int) -> pd.DataFrame:
    """Risk of the best seed: [n, LINES]."""
    sizes = list(dict.fromkeys(n for _, _, n in records))
    rows = [[best_risk(records[(*line_of(line, n_layers), n)]).risk for line in LINES] for n in sizes]
    return pd.DataFrame(rows, columns=list(LINES), index=pd.Index(sizes, name="n"))


def drawn_risks(records: Records, n_layers: int, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """`best_risks` of bootstrap samples of the seeds, every ensemble's drawn by themselves: [draws, n, LINES]."""
    rng, rows = np.random.default_rng(seed), []
    for n in dict.fromkeys(n for _, _, n in records):
        tables = [records[(*line_of(line, n_layers), n)].table("risks") for line in LINES]
        rows.append([drawn_best(table.selection, table.risk, rng, draws) for table in tables])
    return np.moveaxis(np.array(rows), -1, 0)


def largest_ratio(risks: np.ndarray) -> np.ndarray:
    """By how much the risks of pairs and triplets differ at most, whichever is larger: [..., n, LINES] to [...]."""
    pairs, triplets = risks[..., LINES.index("pairs")], risks[..., LINES.index("triplets")]
    return np.exp(np.abs(np.log(pairs / triplets)).max(-1))


def ratios_of_seconds(records: Records, n_layers: int) -> pd.Series:
    """Risk of pairs over that of triplets, of the seeds that other prompts chose second, by n: nan with one seed."""
    ratios = {}
    for n in dict.fromkeys(n for _, _, n in records):
        tables = [records[layout, n_layers, n].table("risks") for layout in ("pairs", "triplets")]
        chosen = [table.nsmallest(2, "selection").risk.to_numpy()[1:] for table in tables]
        ratios[n] = chosen[0][0] / chosen[1][0] if all(map(len, chosen)) else np.nan
    return pd.Series(ratios).rename_axis("n")


def distance_from_middle(risks: np.ndarray) -> np.ndarray:
    """How far from halfway between the two single layouts pairs or triplets lie at most: [..., n, LINES] to [...].

    In log-risk, as a share of the way: at 0.5 they lie on one of the two, and beyond it not between them.
    """
    less, *others, single = np.moveaxis(np.log(risks), -1, 0)  # each [..., n]
    places = [(other - single) / (less - single) for other in others]
    return np.abs(np.stack(places) - 0.5).max((0, -1))


def first_projections(records: Records) -> dict[tuple[str, int, int], tuple[Tensor, Projection]]:
    """The best seed's first matrix D [T, T] and its projection, of each record that has one."""
    found = {}
    for (layout, n_layers, n), record in records.items():
        if layout != "single":
            weights = best_weights(record)
            D = weights.D[0, 0]
            found[layout, n_layers, n] = D, project(D, weights.layout, n)
    return found


def share_table(records: Records) -> pd.DataFrame:
    """How much of the best seed's first matrix the theorem's set explains, beside a random one: by layout, layers, n.

    The last column is the risk of a model whose matrices are all tied, over that of the free one.
    """
    rows = []
    for (layout, n_layers, n), (D, found) in first_projections(records).items():
        record = records[layout, n_layers, n]
        noise = project(torch.randn(D.shape, generator=torch.Generator().manual_seed(n)), get_layout(layout), n)
        rows.append(
            {
                "layout": layout,
                "layers": n_layers,
                "n": n,
                "explained": found.share,
                "by sums on arrows": found.formation_share,
                "inside the mask": found.mask_share,
                "a random D explained": noise.share,
                "a random D inside": noise.mask_share,
                "a random D by sums": noise.formation_share,
                "risk within the set / free": record.table("restricted").risk.iloc[0] / best_risk(record).risk,
            }
        )
    return pd.DataFrame(rows).set_index(["layout", "layers", "n"]).sort_index()


def matrix_cells(records: Records, n_layers: int, largest: int) -> pd.DataFrame:
    """Entries of the first matrix and of its parts, over the largest, of tokens that can matter, for each n <= largest.

    Columns layout, n, query, key, and one for each of PARTS.
    """
    tables = []
    for (layout, depth, n), (D, found) in first_projections(records).items():
        if depth != n_layers or n > largest:
            continue
        alive = live_keys(get_layout(layout), n)
        parts = [D, found.concatenation, found.formation, D - found.concatenation - found.formation]
        parts = torch.stack(parts)[:, :, alive] / D[:, alive].abs().max()  # [4, T, keys]
        query, key = np.indices(parts.shape[1:]).reshape(2, -1)
        columns = {part: values.flatten().numpy().round(2) for part, values in zip(PARTS, parts, strict=True)}
        tables.append(pd.DataFrame({"layout": layout, "n": n, "query": query, "key": alive.numpy()[key], **columns}))
    return pd.concat(tables)


def contrast_table(records: Records) -> pd.DataFrame:
    """`gram_contrast` of the weights on the arrows, beside random ones, and how much the arrows hold: by layers, n."""
    rows = [
        {
            "layers": n_layers,
            "n": n,
            "learned": gram_contrast(found.weights),
            "random weights": gram_contrast(torch.randn(n + 1, n + 1, generator=torch.Generator().manual_seed(n))),
            "sums on arrows": found.formation_share,
        }
        for (layout, n_layers, n), (_, found) in first_projections(records).items()
        if layout == "triplets"
    ]
    return pd.DataFrame(rows).set_index(["layers", "n"])


def gram_contrast(weights: Tensor) -> float:
    """Of weights [n + 1, n + 1] of arrows on demonstrations: 0 where the arrows keep all n demonstrations apart.

    Mean size of the off-diagonal entries of the demonstrations' Gram matrix over its mean diagonal.
    """
    demos = weights[:, :-1]  # [n + 1, n]
    gram, n = demos.T @ demos, demos.shape[1]
    return ((gram.abs().sum() - gram.diag().sum()) / (n * (n - 1)) / gram.diag().mean()).item()


def worth_table(records: Mapping[tuple[int, int], Record]) -> pd.DataFrame:
    """All scores of records of task_vector_worth by layers and n: columns problem, layers, n, method, angle, risk."""
    tables = []
    for (n_layers, n), record in records.items():
        table = record.table("scores")
        problem = [problem_name(*row) for row in zip(table.inputs, table.task, strict=True)]
        tables.append(table.assign(problem=problem, layers=f"{n_layers} layers", n=n))
    return pd.concat(tables, ignore_index=True).drop(columns=["inputs", "task"])


def problem_name(inputs: str, task: str) -> str:
    """How a page calls a problem of linear_attention.reduction: where its inputs lie, and its task."""
    return f"{'x on a line' if inputs == 'line' else 'x anywhere'}, {task}"


def ways_of_training() -> pd.DataFrame:
    """The measured ways of training (benchmarks), by what they are called there."""
    path = project_root() / "benchmarks" / "results" / "ways_of_training.csv"
    return pd.read_csv(path).drop_duplicates("way", keep="last").set_index("way")


def ways_table(ways: pd.DataFrame) -> pd.DataFrame:
    """`ways_of_training` as a page shows it."""
    columns = {
        "Way": ways.what,
        "CPU seconds": ways["cpu seconds"].map("{:.0f}".format),
        "Risk": [f"{risk:.3g} ± {error:.1g}" for risk, error in zip(ways.best, ways.error, strict=True)],
        "Median seed": ways["median"].map("{:.3g}".format),
        "On plain prompts": ways.plain.map("{:.3g}".format),
        "On its own sample": ways.own_sample.map("{:.3g}".format).replace("nan", ""),
        "Explained": ways.explained.map("{:.0%}".format),
    }
    return pd.DataFrame(columns).set_index("Way")
