"""What chapter 7 makes of its records of bands: of two tasks and Null, three prompts each, three layers, two seeds."""

import numpy as np
import pandas as pd
import pytest
import torch

from task_vectors.lm.finetuning import Tuning
from task_vectors.measures.statistics import mean_over_trainings
from task_vectors.pages import band_figures
from task_vectors.pages.from_records.band_tables import (
    bands_table,
    decodability_table,
    difference_table,
    pair_table,
    precision_table,
    published_effects,
    published_table,
    rates_table,
    summary_table,
    task_table,
    time_table,
)
from task_vectors.pages.from_records.band_tuning import (
    BEFORE,
    KINDS,
    SHORT,
    BandRuns,
    accuracy_by_seed,
    by_layer,
    changes,
    gains_by_task,
    loss_curves,
    prompt_facts,
    searched,
    trial_scores,
)

K, B, L = 2, 3, 3
BANDS = ["first", "up to TD", "after TD", "last", "all"]


class FakeRecord:
    """Two tests of random outcomes; the second one's TD is highest after the layer `peak`."""

    parameters = {"tests": [{}, {}]}

    def __init__(self, seed, peak=0, steps=6):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(K + 1), B)
        scores = {"right": rng.random(2 * len(labels)) < 0.5, "first": rng.random(2 * len(labels)) < 0.7}
        where = {"test": np.repeat([0, 1], len(labels)), "class": np.tile(labels, 2), "group": np.tile([0, 1, 2], 6)}
        self.prompts = pd.DataFrame(where | scores | {"log_prob": -rng.random(2 * len(labels))})
        self.votes = [rng.integers(0, K + 1, (len(labels), L)) for _ in range(2)]
        self.votes[1][:] = K + 1  # of no task
        self.votes[1][:, peak] = labels
        self.within = np.where(rng.random((len(labels), L)) < 0.3, -1, labels[:, None])
        self.read = rng.random((2, len(labels), L)) < 0.5
        self.steps, self.seconds = torch.arange(steps) + float(seed), 60.0 * (seed + 1)

    def table(self, name):
        return {"prompts": self.prompts, "training": pd.DataFrame({"seconds": [self.seconds]})}[name]

    def tensors(self, name):
        if name == "losses":
            return {"losses": self.steps}
        found = {"task": self.votes[int(name[-1])], "within": self.within, "symbol": self.read[0]}
        return {what: torch.tensor(value) for what, value in (found | {"lens": self.read[1]}).items()}


@pytest.fixture
def runs():
    records = {BEFORE: [FakeRecord(0, peak=1)]}
    records |= {band: [FakeRecord(2 * i + 1), FakeRecord(2 * i + 2, peak=1)] for i, band in enumerate([*BANDS, SHORT])}
    return BandRuns(records, td_layer=1)


def test_the_best_rate_lies_inside_those_that_were_tried():
    tried, best = searched([1.0, 2.0, 4.0], lambda rate: (-((rate - 2) ** 2), rate))
    assert (sorted(tried), best) == ([1, 2, 4], 2)
    assert tried[4] == (-4, 4)


@pytest.mark.parametrize(("wish", "further"), [(100, [8, 16]), (8, [8, 16]), (0, [0.25, 0.5]), (0.5, [0.25, 0.5])])
def test_from_the_edge_two_further_rates_are_tried(wish, further):
    tried, best = searched([1.0, 2.0, 4.0], lambda rate: (-abs(np.log(rate + 1) - np.log(wish + 1)),))
    assert sorted(tried) == sorted([1, 2, 4, *further])
    assert best == min(tried, key=lambda rate: abs(np.log(rate + 1) - np.log(wish + 1)))


def test_one_rate_alone_is_not_searched():
    assert searched([0.5], lambda rate: (rate,)) == ({0.5: (0.5,)}, 0.5)


def test_a_trial_is_judged_by_all_tasks_but_null():
    record = FakeRecord(0)
    record.prompts.loc[record.prompts["class"] == K, ["right", "log_prob"]] = [True, -1000]
    kept = record.prompts[record.prompts["class"] < K]
    assert trial_scores(record) == (kept.log_prob.mean(), kept.right.mean())


def test_facts_are_by_task_and_group_without_null():
    record = FakeRecord(3)
    facts = prompt_facts(record, 0)
    rows = record.prompts.query("test == 0").reset_index(drop=True)
    for row in range(K * B):
        k, b = rows["class"][row], rows.group[row]
        assert facts["right"][k, b] == rows.right[row]
        assert facts["log_prob"][k, b] == rows.log_prob[row]
        assert facts["task"][k, b].tolist() == [vote == k for vote in record.votes[0][row]]
        assert facts["lens"][k, b].tolist() == record.read[1][row].tolist()
        expected = [np.nan if vote < 0 else 1.0 for vote in record.within[row]]
        np.testing.assert_array_equal(facts["within"][k, b], expected)
    assert facts["right"].shape == (K, B)


def test_bands_are_compared_prompt_by_prompt(runs):
    assert runs.of("first").shape == (2, K, B)
    assert runs.of(BEFORE, "task").shape == (1, K, B, L)
    first, last, before = (
        np.stack([prompt_facts(record, 0)["right"] for record in runs.records[band]])
        for band in ("first", "last", BEFORE)
    )
    assert runs.difference("first", "last") == mean_over_trainings((first - last).mean(1))
    assert runs.difference("first") == mean_over_trainings((first - before).mean(1))
    td = runs.of("first", "task", 1) - runs.of("last", "task", 1)
    assert runs.difference("first", "last", "fixed") == mean_over_trainings(td.mean(1))
    assert runs.difference("all", "last", test=1).mean == pytest.approx(
        np.mean([prompt_facts(record, 1)["right"] for record in runs.records["all"]])
        - np.mean([prompt_facts(record, 1)["right"] for record in runs.records["last"]])
    )


def test_a_layer_is_chosen_anew_in_each_seed_and_never_the_top(runs):
    assert runs.layers_anew("first") == [0, 1]
    facts = [prompt_facts(record, 0)["task"] for record in runs.records["first"]]
    assert np.array_equal(runs.named("first", "anew"), np.stack([facts[0][..., 0], facts[1][..., 1]]))
    assert np.array_equal(runs.named("first", "fixed"), np.stack(facts)[..., 1])
    assert np.array_equal(runs.named("first", "top"), np.stack(facts)[..., 2])
    highest_at_the_top = BandRuns({"band": [FakeRecord(0, peak=2)]}, td_layer=0)
    assert highest_at_the_top.layers_anew("band") == [0]


def test_gains_are_against_the_model_before(runs):
    td, accuracy = runs.gains("top", ["all", "first"])
    assert td.shape == accuracy.shape == (2, 2, K, B)
    assert np.array_equal(td[1], runs.of("first", "task", 2) - runs.of(BEFORE, "task", 2))
    assert np.array_equal(accuracy[0], runs.of("all") - runs.of(BEFORE))
    table = gains_by_task(runs, "top", ["all", "first"], ["AND", "OR"])
    row = table.query("band == 'first' and seed == 2 and task == 'OR'")
    assert row[["gain in TD", "gain in accuracy"]].to_numpy().tolist() == [
        [td[1, 1, 1].mean(), accuracy[1, 1, 1].mean()]
    ]
    assert len(table) == 2 * 2 * K


def test_a_slope_is_that_of_gains_which_go_together(runs):
    """Where a prompt is right exactly when its task is named, accuracy rises as TD does."""
    for band in runs.records:
        for test in runs.facts[band]:
            test["right"] = test["task"][..., 1]
    assert runs.slope("fixed", BANDS).mean == pytest.approx(1)
    low, high = runs.slope("fixed", BANDS)[1:3]
    assert low == pytest.approx(1) == high


def test_tables_for_figures(runs):
    table = accuracy_by_seed(runs).set_index(["band", "seed"]).accuracy
    assert table["first", "2"] == runs.of("first")[1].mean()
    assert table["first", "mean"] == pytest.approx((table["first", "1"] + table["first", "2"]) / 2)
    shares = by_layer(runs, ["all"], {"lens": "readout"})
    assert shares.layer.tolist() == [1, 2, 3]
    assert shares.share.tolist() == pytest.approx(runs.of("all", "lens").mean((0, 1, 2)))
    curve = loss_curves(runs, ["first"], window=4)  # losses 1 to 6 and 2 to 7: a whole window only
    assert curve.to_dict("list") == {"band": ["first"], "step": [4], "loss": [3.0]}
    found = changes(runs, ["last"], {"as trained": 0, "other": 1})
    for i, row in found.iterrows():
        assert tuple(row[["change", "low", "high"]]) == runs.difference("last", test=i)[:3]


def test_the_best_rate_is_marked():
    table = rates_table({"first": ({0.1: (-2, 0.25), 0.3: (-1, 0.5)}, 0.3), "last": ({0.1: (-3, 0)}, 0.1)})
    assert table.loc["first"].tolist() == ["0.25\u00a0(-2.00)", "0.50\u00a0(-1.00)\u00a0←"]
    assert table.loc["last"].tolist() == ["0.00\u00a0(-3.00)\u00a0←", ""]


def test_layers_are_counted_from_one(tiny_llama):
    table = bands_table(tiny_llama, {"last": Tuning((1, 2), rank=2), "first": Tuning((0, 1), rank=4)})
    assert table["layers"].tolist() == ["2 to 3", "1 to 2"]
    few, many = (int(number.replace(",", "")) for number in table["trained parameters"])
    assert many == 2 * few > 0


def test_means_and_spreads(runs):
    table = summary_table(runs, [BEFORE, "first"])
    assert table.loc["first"].tolist() == [
        f"{runs.of('first').mean():.2f}",
        f"{runs.of('first', 'task', 1).mean():.2f}",
        f"{runs.of('first', 'task', 2).mean():.2f}",
    ]
    assert table.columns[1] == "TD, layer 2"
    tasks = task_table(runs, [BEFORE, "first"], {"AND": 0.5, "OR": 0.25})
    by_seed = runs.of("first").mean(-1)[:, 1]
    assert tasks.loc["first", "OR"] == f"{by_seed.mean():.2f}\u00a0±{by_seed.std(ddof=1):.2f}"
    assert tasks.loc[BEFORE, "OR"] == f"{runs.of(BEFORE)[0, 1].mean():.2f}"
    assert tasks.loc["constant"].tolist() == ["0.50", "0.25"]


def test_times_are_medians_of_seeds(runs):
    table = time_table(runs, ["first"])  # seeds 1 and 2 took 2 and 3 minutes for six steps
    assert table.loc["first"].tolist() == ["6", "2.5", "25.0"]


def test_one_training_in_two_precisions():
    table = precision_table(BandRuns({"float32": [FakeRecord(0)], "bfloat16": [FakeRecord(1)]}, td_layer=1), window=2)
    assert table["loss, last steps"].tolist() == ["4.500", "5.500"]
    assert table["s a step"].tolist() == ["10.0", "20.0"]


def test_readings_of_td(runs):
    table = decodability_table(runs, [BEFORE, "first"])
    assert table.loc["… at the layers"].tolist() == ["2", "1, 2"]
    assert table.loc["TD, anew", "first"] == f"{runs.named('first', 'anew').mean():.2f}"
    for record in runs.records["all"]:
        record.within[:] = -1  # no prompt has enough others of its symbol
    few = BandRuns(runs.records, td_layer=1)
    assert decodability_table(few, ["all"]).loc["TD, top, same symbol", "all"] == "–"
    differences = difference_table(runs)
    assert differences.loc[KINDS["top"], "first − last"] == f"{runs.difference('first', 'last', 'top'):+.2f}"
    pairs = pair_table({"pos": runs})
    assert pairs.loc["all − first", "tagging"] == f"{runs.difference('all', 'first'):+.2f}"


def test_the_papers_effects():
    """Table 1: accuracy 25.5, 69.4 and 33.9 percent before, and after training the first and the last layers."""
    found = published_effects("pos")
    assert found == pytest.approx({"over the last": 0.355, "by the last": 0.084, "td": 0.27})


def test_the_paper_beside_ours(runs):
    table = published_table(runs, "pos", ["Noun", "Verb"])
    assert table["Llama 3.1 8B", "first"].tolist()[:2] == ["0.95 ±0.02", "0.69 ±0.14"]
    by_task = runs.of("last").mean((0, 2))
    assert table["here", "last"]["accuracy"] == f"{by_task.mean():.2f} ±{by_task.std():.2f}"
    assert table["here", "last"]["Verb"] == f"{by_task[1]:.2f}"


def shown(chart):
    """The rows of data that a chart holds."""
    spec = chart.to_dict()
    return [row for rows in spec["datasets"].values() for row in rows]


def test_bands_that_all_families_share_are_drawn_once():
    bands = {"bitwise": {"first": (0, 1), "last": (2,)}, "pos": {"first": (0, 1), "last": (2,)}}
    assert len(shown(band_figures.band_layers(bands, {"bitwise": 0, "pos": 0}))) == 3
    bands["pos"]["last"] = (1, 2)
    chart = band_figures.band_layers(bands, {"bitwise": 0, "pos": 1})
    rows = {(row["family"], row["band"], row["layer"], row["td"]) for row in shown(chart)}
    assert ("tagging", "last", 2, 2) in rows
    assert len(rows) == 7


def test_a_star_marks_an_interval_without_zero():
    table = pd.DataFrame(
        [
            ("first", "4 digits", 0.2, 0.1, 0.3),
            ("last", "4 digits", -0.2, -0.5, 0.1),
            ("all", "4 digits", -0.3, -0.4, -0.2),
        ],
        columns=["band", "test", "change", "low", "high"],
    )
    rows = shown(band_figures.change_cells({"bitwise": table}, ["first", "last", "all"]))
    assert [row["label"] for row in rows] == ["+0.20*", "-0.20", "-0.30*"]


def test_every_family_has_its_panel(runs):
    both = {"bitwise": runs, "pos": runs}
    charts = [
        band_figures.seeds_and_means(both),
        band_figures.by_layers(both, BANDS),
        band_figures.gains(both, BANDS, {"bitwise": ["AND", "OR"], "pos": ["Noun", "Verb"]}),
        band_figures.losses(both, [*BANDS, SHORT], {"bitwise": 2, "pos": 3}),
    ]
    for chart in charts:
        assert {row["family"] for row in shown(chart)} == {"bitwise arithmetic", "tagging"}
        assert chart.to_dict()["description"]
    order = charts[0].to_dict()["spec"]["layer"][0]["encoding"]["y"]["sort"]
    assert order == [BEFORE, "first", SHORT, *BANDS[1:]]
