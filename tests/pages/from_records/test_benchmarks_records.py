"""Tables, estimates and charts of benchmark results, from a few rows made here and the committed ones."""

import math

import altair as alt
import pandas as pd
import pytest

from task_vectors.pages.from_records.benchmarks import (
    check_ratios,
    gpu_numbers,
    in_words,
    latest_of_each,
    latest_run,
    measured,
    of_models,
    ratios,
    table,
    times,
)
from task_vectors.paths import project_root

RESULTS = project_root() / "benchmarks" / "results"


def line(name, median, unit="ms", *, threads=1, date="today", spread=0.2, case="n = 10"):
    low, high, lower, upper = (median * (1 + step) for step in (-spread, spread, -2 * spread, 2 * spread))
    values = {"median": median, "low": low, "high": high, "lower": lower, "upper": upper}
    return {"case": case, "name": name, "unit": unit, "threads": threads, "date": date} | values


ROWS = [
    line("theirs", 99.0, date="yesterday"),
    line("theirs", 10.0),
    line("ours", 5.0),
    line("theirs / ours", 2.0, "ratio"),
    line("theirs / ours", 4.0, "ratio", threads=2),
]


@pytest.fixture
def run(tmp_path):
    pd.DataFrame(ROWS).to_csv(tmp_path / "runs.csv", index=False)
    return latest_run(tmp_path / "runs.csv")


def test_only_the_latest_run_counts(run):
    assert run["median"].tolist() == [10, 5, 2, 4]
    assert run["where"].tolist() == ["n = 10, 1 thread"] * 3 + ["n = 10, 2 threads"]


def test_of_runs_of_one_case_each_the_last_of_every_case_counts(tmp_path):
    twice = [line("disk", 1.0, date="a"), line("disk", 2.0, date="b")]
    pd.DataFrame([*twice, line("disk", 3.0, date="c", case="x")]).to_csv(tmp_path / "runs.csv", index=False)
    assert latest_of_each(tmp_path / "runs.csv")["median"].tolist() == [2, 3]


def test_the_table_of_models_has_a_row_for_each_from_small_to_large_and_no_number_that_was_not_measured():
    rows = [
        line("disk", 7.14, case="large, float32"),
        line("chapter 11: peak memory", 4.26, case="large, bfloat16"),
        line("answers that differ", 2 / 256, case="large, ICL of 256 prompts"),
        line("disk", 0.55, case="small, float32"),
        line("load", 4.0, "s", case="none of it, float32"),
    ]
    found = of_models(pd.DataFrame(rows))
    assert found.index.tolist() == ["small", "large"]
    assert found.loc["large"].tolist() == ["7.1", "–", "–", "4.3", "–", "0.8%"]
    assert set(found.loc["small", found.columns[1:]]) == {"–"}


@pytest.mark.parametrize(
    ("told", "what", "precision"),
    [
        ("peak memory of converting", "convert: peak memory", "float32"),
        ("peak memory of a run", "chapter 11: peak memory", "bfloat16"),
    ],
)
def test_the_page_of_models_tells_the_peaks_that_were_measured(told, what, precision):
    page = (project_root() / "book" / "models_and_data.md").read_text(encoding="utf-8")
    lines = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in page.splitlines() if row.startswith("| ")]
    cells = {first: rest for first, *rest in lines}
    rows = latest_of_each(RESULTS / "models_of_pip.csv").query("name == @what").set_index("case")["median"]
    peaks = [rows.get(f"{model}, {precision}") for model in cells[""]]
    assert cells[told] == ["–" if peak is None else f"{peak:.1f} GB" for peak in peaks]


def test_an_estimate_is_the_median_with_its_interval_on_the_most_threads(run):
    assert measured(run, "theirs / ours", "n = 10")[:3] == pytest.approx((4.0, 2.4, 5.6))
    with pytest.raises(KeyError, match="no 'nothing'"):
        measured(run, "nothing", "n = 10")


def test_a_run_that_is_older_than_the_columns_gives_no_interval(run):
    older = measured(run.drop(columns=["lower", "upper"]), "ours", "n = 10")
    assert older.mean == 5
    assert math.isnan(older.low)
    assert math.isnan(older.high)


def test_a_table_has_a_line_for_each_thing_and_a_column_for_each_place(run):
    found = table(run, ["ms", "ratio"])
    assert found.index.tolist() == ["theirs (ms)", "ours (ms)", "theirs / ours (ratio)"]
    assert found.loc["theirs / ours (ratio)"].tolist() == ["2 (1.6 to 2.4)", "4 (3.2 to 4.8)"]
    assert found.loc["ours (ms)"].tolist() == ["5 (4 to 6)", ""]


def test_numbers_have_the_digits_that_say_something():
    assert in_words(pd.Series(line("a", 1234.5, spread=0))) == "1,234"
    assert in_words(pd.Series(line("a", 0.012345, spread=0))) == "0.0123"


@pytest.mark.parametrize("chart", [ratios, times])
def test_a_chart_draws_a_point_for_each_measurement(chart, run):
    name = "theirs / ours" if chart is ratios else "ours"
    drawn = chart(run, [name], "In words.")
    assert isinstance(drawn, alt.LayerChart)
    assert drawn.description == "In words."
    drawn_rows = [row for rows in drawn.to_dict()["datasets"].values() for row in rows if "where" in row]
    assert [row["name"] for row in drawn_rows] == [name] * (2 if chart is ratios else 1)


def test_an_exchanged_ratio_is_found(run):
    check_ratios(run)
    exchanged = run.assign(median=run["median"].where(run.unit == "ms", 0.5), low=0.4, high=20)
    with pytest.raises(AssertionError, match="its parts give 2"):
        check_ratios(exchanged)


def test_the_committed_results_are_consistent():
    for path in RESULTS.glob("*.csv"):
        if path.stem != "ways_of_training":  # which compares results, not times
            check_ratios(latest_run(path))


def test_numbers_of_the_gpu_are_those_of_its_rows():
    run = latest_run(RESULTS / "kernels_on_gpu.csv")
    found = gpu_numbers(run)
    assert found["card"] == "NVIDIA H200"
    assert found["least"] <= found["most"]
    rows = run.set_index(["name", "case"])["median"]
    assert found["many_torch"] == rows["torch", "neighbor vote, 3000 states, 32 layers, width 4096, float32"]
    assert found["single_gain"] == rows["torch / triton", "head saliency, 2048 tokens, 32 heads of 128, float32"]
    assert found["votes_wrong"] == 0
