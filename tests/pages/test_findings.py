"""One rule for the whole book, and numbers that cannot drift."""

import json

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from notebook_files import write_notebook
from scipy import stats

from task_vectors.measures.statistics import Estimate, mean_over_units
from task_vectors.pages import scoreboard
from task_vectors.pages.findings import VERDICTS, Findings, above, below, p_value, verdict, within
from task_vectors.pages.scoreboard import accept, accepted, executed_findings, holm, in_numbers, moved_findings

NAN = float("nan")
FINITE = st.floats(-10, 10)


@pytest.mark.parametrize(
    ("found", "rule", "published", "state", "reason"),
    [
        ((0.3, 0.1, 0.5), above(), 0.4, "holds", ""),
        ((0.1, 0.05, 0.15), above(), 0.4, "holds", "smaller than published"),
        ((0.2, 0.05, 0.35), above(), 0.4, "holds", ""),  # half of the published effect is enough
        ((-0.3, -0.5, -0.1), below(), -0.4, "holds", ""),
        ((-0.1, -0.15, -0.05), below(), -0.4, "holds", "smaller than published"),
        ((0.3, 0.2, 0.4), below(), -0.2, "against", ""),
        ((-0.3, -0.4, -0.2), above(), 0.4, "against", ""),
        ((0.1, -0.1, 0.3), above(), 0.2, "undecided", "0 is inside"),
        ((0.01, -0.03, 0.04), above(margin=0.05), 0.4, "no effect", "within 0.05"),
        ((0.01, -0.03, 0.06), above(margin=0.05), 0.4, "undecided", "0 is inside"),
        (
            (0.03, 0.02, 0.04),
            above(margin=0.05),
            0.4,
            "no effect",
            "within 0.05",
        ),  # what counts as none, counts as none
        ((-0.03, -0.04, -0.02), above(margin=0.05), 0.4, "no effect", "within 0.05"),
        ((0.6, 0.55, 0.65), above(0.5), 0.9, "holds", "smaller than published"),
        ((0.8, 0.75, 0.85), above(0.5), 0.9, "holds", ""),
        ((0.01, -0.03, 0.04), within(0.05), None, "holds", ""),
        ((0.1, 0.06, 0.14), within(0.05), None, "against", ""),
        ((-0.1, -0.14, -0.06), within(0.05), None, "against", ""),
        ((0.1, 0.01, 0.14), within(0.05), None, "undecided", "the interval is wider"),
        ((0.2, NAN, NAN), above(), 0.4, "undecided", "no interval"),
        ((NAN, NAN, NAN), within(0.1), None, "undecided", "no interval"),
        ((0.0, 0.0, 0.0), above(), None, "undecided", "0 is inside"),
    ],
)
def test_the_rule(found, rule, published, state, reason):
    assert verdict(Estimate(*found), rule, published) == (state, reason)


def test_a_ceiling_or_a_gate_comes_first():
    assert verdict(Estimate(0.3, 0.2, 0.4), above(), 0.4, "TD is .98 before") == ("undecided", "TD is .98 before")


def test_a_claim_lies_on_the_published_side():
    with pytest.raises(ValueError, match="on the published side"):
        verdict(Estimate(0.3, 0.2, 0.4), above(), -0.2)


@given(FINITE, FINITE, FINITE, FINITE)
def test_a_mirrored_finding_has_the_same_verdict(a, b, c, null):
    low, mean, high = sorted((a, b, c))
    for margin in (None, 0.5):
        up = verdict(Estimate(mean, low, high), above(null, margin))[0]
        down = verdict(Estimate(-mean, -high, -low), below(-null, margin))[0]
        assert up == down
        assert up in VERDICTS


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=12).filter(lambda values: np.ptp(values) > 1e-3))
def test_p_is_that_of_the_t_test(values):
    expected = stats.ttest_1samp(values, 0.25).pvalue
    assert p_value(mean_over_units(np.array(values)), above(0.25)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_p_of_an_equivalence_is_the_larger_of_two():
    found = Estimate(0.01, -0.02, 0.04)
    nearer = stats.norm.sf(0.04 / 0.03 * stats.norm.ppf(0.975)) * 2  # from .01 to the margin at .05
    for rule in (within(0.05), above(margin=0.05)):
        assert p_value(found, rule) == pytest.approx(nearer)
    assert np.isnan(p_value(Estimate(0.2, NAN, NAN), above()))
    assert p_value(Estimate(0.0, 0.0, 0.0), above()) == 1


def test_numbers_are_shown_to_two_digits_of_their_interval():
    rows = [(0.14159, 0.04, 0.24), (33.2, -140.4, 206.0), (0.00624, 0.00296, 0.00953), (1234.5, NAN, NAN), (NAN,) * 3]
    found = in_numbers(pd.DataFrame(rows, columns=["mean", "low", "high"]))
    spaced = [text.replace("\u00a0", " ") for text in found]
    assert spaced == ["0.14 [0.04, 0.24]", "33 [-140, 206]", "0.0062 [0.0030, 0.0095]", "1,234", "–"]


def test_a_rule_is_said_in_few_digits():
    assert str(within(2000)) == "within 2000 of 0"
    assert str(above(0.5, 0.09751)) == "above 0.5; within 0.0975 of it is no effect"
    assert str(below()) == "below 0"


def test_holm():
    assert holm(np.array([0.01, 0.04, NAN, 0.03])) == pytest.approx([0.03, 0.06, NAN, 0.06], nan_ok=True)
    assert holm(np.array([0.6, 0.9])).max() == 1


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A notebook with one parameter, in a project of its own with an empty table of findings."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/findings.csv").write_text(",".join(scoreboard.COLUMNS) + "\n", encoding="utf-8")
    monkeypatch.setattr(scoreboard, "project_root", lambda: tmp_path)
    return write_notebook(tmp_path / "07_trial.ipynb", "n: int = 3  # prompts")


def run(chapter, effect=0.3, n=3, low=0.2):
    """The notebook as it is after its findings were made, beside the source."""
    import task_vectors.pages.findings as module

    glued = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "glue", glued.__setitem__)
        findings = Findings(str(chapter), {"n": n})
        findings.add("effect", "It rises", Estimate(effect, low, 0.4), above(), published=0.5, source="Fig. 1")
        table = findings.table()
    executed = nbformat.read(chapter, as_version=4)
    output = nbformat.v4.new_output(
        "display_data", {"application/papermill.record/text/plain": repr(glued["findings"])}
    )
    output.metadata["scrapbook"] = {"name": "findings", "mime_prefix": "application/papermill.record/"}
    executed.cells[0].outputs = [output]
    target = chapter.with_name("executed.ipynb")
    nbformat.write(executed, target)
    return glued, table, target


def test_a_page_says_what_was_found_and_glues_it(chapter):
    glued, table, _ = run(chapter)
    assert table.columns[0] == "Verdict"
    assert table.loc["It rises", "Verdict"] == "holds"
    assert table.loc["It rises", "Published"] == "0.50, Fig. 1"
    assert (glued["n"], glued["n_findings"], glued["effect_verdict"], glued["effect_mean"]) == (3, 1, "holds", 0.3)
    assert json.loads(glued["findings"])[0]["default"] is True


def test_a_finding_without_a_value_shows_none(chapter):
    glued, table, _ = run(chapter, NAN, low=NAN)
    assert table.loc["It rises", "Here"] == glued["effect_estimate"] == "–"
    assert np.isnan(glued["effect_mean"])


def test_a_key_is_used_once(chapter, monkeypatch):
    monkeypatch.setattr("task_vectors.pages.findings.glue", lambda *args: None)
    findings = Findings(str(chapter), {"n": 3})
    findings.add("effect", "It rises", Estimate(0.3, 0.2, 0.4), above())
    with pytest.raises(ValueError, match="two findings with the key 'effect'"):
        findings.add("effect", "It rises", Estimate(0.3, 0.2, 0.4), above())


def test_what_moved_is_named_until_it_is_accepted(chapter):
    rows = executed_findings([run(chapter)[2]])
    assert moved_findings(rows) == {"effect": "is new"}
    accept(rows)
    assert moved_findings(rows) == {}
    assert len(accepted()) == 1
    for move in (0.3 + 0.009, 0.3 - 0.009):  # less than a twentieth of the interval's width of .2
        assert moved_findings(executed_findings([run(chapter, move)[2]])) == {}
    assert "mean 0.3 is 0.33" in moved_findings(executed_findings([run(chapter, 0.33)[2]]))["effect"]
    assert "verdict was 'holds'" in moved_findings(executed_findings([run(chapter, low=-0.1)[2]]))["effect"]
    accept(executed_findings([run(chapter, 0.33)[2]]))
    assert accepted()["mean"].tolist() == [0.33]


def test_a_finding_that_is_gone_is_named(chapter):
    rows = executed_findings([run(chapter)[2]])
    accept(rows)
    assert moved_findings(rows.iloc[:0].assign(chapter=[])) == {}
    other = rows.assign(key="other")
    assert moved_findings(other) == {"effect": "is not found any more", "other": "is new"}


def test_other_parameters_do_not_count(chapter):
    assert len(executed_findings([run(chapter, n=4)[2]])) == 0
