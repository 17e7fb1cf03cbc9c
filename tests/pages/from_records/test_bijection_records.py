"""What chapter 11 makes of its records, on answers whose accuracies are known."""

import numpy as np
import pandas as pd
import pytest
import vl_convert

from task_vectors.experiments import bijections as experiment
from task_vectors.experiments.bijections import BOTH_WAYS, CYCLE_FORMS, FORMS, HALF_FORMS
from task_vectors.lm.task_vector import begins_with_word
from task_vectors.measures.statistics import mean_over_units
from task_vectors.pages import bijection_figures as figures
from task_vectors.pages.from_records import bijection_tables as tables
from task_vectors.pages.from_records.bijections import (
    KIND_OF,
    KINDS,
    METHODS,
    WRITTEN,
    accuracies,
    accuracy,
    below_gate,
    by_direction,
    common_letters,
    copied,
    drop,
    effects,
    excess,
    read_answers,
    written,
)
from task_vectors.records.store import recorded

TASKS = ("to_upper", "english_to_french", "present_to_past")


@pytest.fixture
def answers():
    """For each task and form 40 prompts, right at random with a rate of its own for ICL and vector."""
    rng = np.random.default_rng(3)
    rows = []
    for base in TASKS:
        for form in FORMS:
            rates = {"icl": rng.uniform(0.4, 1), "vector": rng.uniform(0.2, 0.9)}
            for i in range(40):
                row = {"base": base, "form": form, "kind": KIND_OF[form], "task": f"{base} {form}", "n_demos": 4}
                row |= {"part": i % 2, "vector_part": i // 2 % 2, "group": i // 2, "demonstrations": f"0/{i // 4}"}
                for method, rate in rates.items():
                    right = rng.random() < rate
                    row |= {f"{method}_right": right, f"{method}_word": right or rng.random() < 0.1}
                    row[f"{method}_kind"] = "right" if right else rng.choice(WRITTEN[1:])
                rows.append(row)
    return pd.DataFrame(rows)


def mean(answers, base, kind, method, rule="right", solved=False):
    """The accuracy, counted prompt by prompt."""
    hits = [
        row[f"{method}_{rule}"]
        for _, row in answers.iterrows()
        if row.base == base and row.kind == kind and (not solved or row[f"icl_{rule}"])
    ]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("rule", ["right", "word"])
@pytest.mark.parametrize("solved", [False, True])
def test_accuracies_are_shares_of_prompts(answers, rule, solved):
    table = accuracies(answers, rule, solved=solved)
    assert table.index.tolist() == list(TASKS)
    for (method, kind), column in table.items():
        for base in TASKS:
            assert column[base] == pytest.approx(mean(answers, base, kind, method, rule, solved))


def test_few_solved_prompts_are_no_accuracy(answers):
    few = answers.copy()
    union = few[(few.base == "to_upper") & (few.kind == "union")].index
    few.loc[union, "icl_right"] = False
    few.loc[union[:9], "icl_right"] = True
    table = accuracies(few, solved=True)
    assert np.isnan(table.loc["to_upper", ("vector", "union")])
    assert table.isna().to_numpy().sum() == 2  # ICL's and the vector's
    few.loc[union[9], "icl_right"] = True
    assert not accuracies(few, solved=True).isna().any(axis=None)
    assert not accuracies(few).isna().any(axis=None)


@pytest.mark.parametrize("rule", ["right", "word"])
def test_the_effects_are_differences_of_drops(answers, rule):
    found = effects(answers, rule)

    def lost(base, kind, method, solved=False):
        one, other = (mean(answers, base, k, method, rule, solved) for k in ("one way", kind))
        return one - other

    for base in TASKS:
        above = {kind: lost(base, kind, "vector") - lost(base, kind, "icl") for kind in KINDS[1:]}
        solved = {kind: lost(base, kind, "vector", solved=True) for kind in KINDS[1:]}
        assert found["excess"][base] == pytest.approx(above["bijection"])
        assert found["solved"][base] == pytest.approx(solved["bijection"])
        assert found["beyond"][base] == pytest.approx(above["bijection"] - above["union"])
        assert found["beyond_solved"][base] == pytest.approx(solved["bijection"] - solved["union"])


def test_the_gate_asks_for_both_directions(answers):
    one_sided = answers.copy()
    both = one_sided.form == "X ↔ Y"
    one_sided.loc[both, "icl_right"] = one_sided.part[both] == 0
    table = by_direction(one_sided)
    assert table[["X → Y", "Y → X"]].to_numpy().tolist() == [[1.0, 0.0]] * 3
    effect = pd.Series(0.1, index=TASKS)
    assert below_gate(one_sided, effect) == "ICL reaches 0.60 in both directions in 0 of 3 tasks"
    # A task that does not count for the effect is not asked for.
    one_sided.loc[both & (one_sided.base != "to_upper"), "icl_right"] = True
    assert below_gate(one_sided, effect) == "ICL reaches 0.60 in both directions in 2 of 3 tasks"
    assert below_gate(one_sided, effect.where(effect.index != "to_upper")) == ""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("going", "right"),
        ("going to", "right word, line goes on"),
        ("go", "the query again"),
        ("go → go", "the query again"),
        ("walking away", "a demonstration's answer"),
        ("goings", "right word, other form"),  # all five letters of "going"
        ("Goink", "right word, other form"),  # four of five, in either case
        ("gone", "other"),
        ("goes", "other"),
        ("", "other"),
    ],
)
def test_what_was_written(text, kind):
    assert written(text, "go", "going", ("walking", "seeing")) == kind
    assert kind in WRITTEN


def test_copies_are_counted_by_direction(answers):
    shares = copied(answers)
    assert shares.index.tolist() == [(base, form) for base in TASKS for form in FORMS]
    assert shares.columns.tolist() == [(method, part) for method in METHODS for part in (0, 1)]
    for (base, form), row in shares.iterrows():
        for (method, part), share in row.items():
            asked = answers[(answers.base == base) & (answers.form == form) & (answers.part == part)]
            assert share == sum(kind == "the query again" for kind in asked[f"{method}_kind"]) / len(asked)


def test_common_letters_count_from_the_first_on():
    assert common_letters("Straße", "STRASSEN") == 7  # case-folded
    assert common_letters("abc", "xbc") == 0
    assert common_letters("", "abc") == 0


def test_answers_are_read_with_what_the_record_was_asked(tiny_facts):
    facts = tiny_facts | {"n_demos": 2, "seeds": [0, 5], "n_prompts": 4, "n_selection": 4, "template": "{x} → {y}"}
    asked = [("present_to_gerund", "Y → X"), ("present_to_gerund", "X ↔ Y"), ("copy", "X → Y")]
    records = [recorded(BOTH_WAYS, task=task, form=form, **facts) for task, form in asked]
    answers = read_answers(records)
    assert answers.kind.tolist() == ["one way"] * 8 + ["bijection"] * 8 + ["exception"] * 8
    assert answers.base.tolist() == ["present_to_gerund"] * 16 + ["copy"] * 8
    assert answers.groupby(["base", "form"]).demonstrations.unique().map(sorted).tolist() == [["0/0", "5/0"]] * 3
    first = experiment.read_evaluation(records[0])
    assert set(answers.layer_right[:8]) == {first.layers["right"]}
    for row in answers.itertuples():
        for method in METHODS:
            assert (getattr(row, f"{method}_kind") == "right") == getattr(row, f"{method}_right")
            line = getattr(row, f"{method}_kind")
            assert line != "the query again" or begins_with_word(getattr(row, method), row.query)


def test_records_of_every_form_are_read(tiny_facts):
    facts = tiny_facts | {"n_demos": 2, "seeds": [0], "n_prompts": 4, "n_selection": 4, "template": "{x} → {y}"}
    forms = (*FORMS, *HALF_FORMS, *CYCLE_FORMS)
    answers = read_answers([recorded(BOTH_WAYS, task="number_to_digits", form=form, **facts) for form in forms])
    kinds = answers.groupby("form", sort=False).kind.unique()
    assert kinds.map(list).to_dict() == {form: [KIND_OF[form]] for form in forms}
    # What is no comparison of the chapter's stays out of its tables.
    assert accuracies(answers).equals(accuracies(answers[answers.form.isin(FORMS)]))
    assert len({KIND_OF[form] for form in (*FORMS, *HALF_FORMS, *CYCLE_FORMS[:2])}) == 7


def test_published_values_are_those_of_table_1():
    table = tables.published(TASKS)
    assert table.index.tolist() == list(TASKS)
    french = table.loc["english_to_french"]
    assert french["icl", "one way"] == pytest.approx((0.83 + 0.82) / 2)
    assert french["vector", "bijection"] == 0.35
    assert excess(table, "bijection")["to_upper"] == pytest.approx((0.91 + 0.99) / 2 - 0.55 - 0)
    assert drop(table, "vector", "bijection")["english_to_french"] == pytest.approx((0.84 + 0.70) / 2 - 0.35)
    assert tables.published_exception("copy").tv_bijection == 0.98
    assert tables.published_by_length("Llama-7B").index.tolist() == [10, 20]


def test_a_task_passes_only_if_icl_and_vector_do(answers):
    row = {"part": 0, "vector_part": 0, "demonstrations": "0/0", "n_demos": 4, "kind": "one way", "base": "to_upper"}
    rows = []
    for form, (icl, vector) in {"a_b": (8, 7), "c": (7, 10), "d": (10, 6)}.items():
        for i in range(10):
            right = {"icl_right": i < icl, "icl_word": True, "vector_right": i < vector, "vector_word": True}
            line = "right" if i < vector else WRITTEN[2]
            rows.append(row | right | {"form": form, "task": form, "group": i, "vector_kind": line})
    table = tables.one_way(pd.DataFrame(rows))
    assert table["passes, exact line"].to_dict() == {"a b": True, "c": False, "d": False}
    assert table["passes, first word"].all()
    assert table["the vector's wrong lines"].to_dict() == {
        "a b": "the query again 100%",
        "c": "",
        "d": "the query again 100%",
    }


def test_tables_hold_what_they_say(answers):
    models = {"ours": accuracies(answers), "theirs": tables.published(TASKS)}
    shown = tables.side_by_side(models)
    rounded = pytest.approx(mean(answers, TASKS[1], "union", "icl"), abs=0.0051)
    assert shown.loc["english → french", ("ICL, ours", "union")] == rounded
    assert ("ICL, theirs", "union") not in shown
    means = [mean(answers, base, "bijection", "vector") for base in TASKS]
    assert shown.loc["mean", ("task vector, ours", "bijection")] == pytest.approx(np.mean(means), abs=0.0051)
    points = tables.slopes(answers, models)
    assert len(points) == 3 * 2 * (3 + 2)
    assert points[points.panel.str.startswith("theirs")].low.isna().all()
    ours = points[(points.panel == "ours: task vector") & (points.kind == "union")]
    asked = answers[(answers.base == "to_upper") & (answers.kind == "union")]
    first = ours.iloc[0]
    assert (first.accuracy, first.low, first.high) == pytest.approx(tuple(accuracy(asked, "vector")[:3]))
    assert points.group.unique().tolist() == ["letters", "translation", "verb forms"]

    wide = tables.by_form(answers)
    assert wide.index.tolist() == ["lower → upper", "english → french", "present → past"]
    assert (
        wide.loc["present → past", ("task vector", "X ↔ Y")] == f"{mean(answers, TASKS[2], 'bijection', 'vector'):.2f}"
    )

    shares = tables.written_shares(answers)
    assert shares.groupby(["method", "kind"]).share.sum().to_numpy() == pytest.approx(np.ones(6))
    right = shares[(shares.method == "ICL") & (shares.kind == "union") & (shares.written == "right")].share.item()
    assert right == pytest.approx(answers[answers.kind == "union"].icl_right.mean())

    split = tables.sides(answers)
    same = answers[(answers.kind == "union") & (answers.part == answers.vector_part)]
    assert split.loc[("union", "the same part as the query"), "Task vector"] == str(accuracy(same, "vector"))
    assert split.prompts.groupby("Kind").sum().tolist() == [120, 120]


def test_a_change_is_that_of_each_task(answers):
    longer = answers.copy()
    longer.loc[longer.kind == "bijection", "vector_right"] = True
    change = tables.changes({4: answers, 8: longer})["vector", "bijection"]
    expected = [1 - mean(answers, base, "bijection", "vector") for base in TASKS]
    assert change.mean == pytest.approx(np.mean(expected))
    assert tables.changes({4: answers, 8: longer})["icl", "union"].mean == 0
    table = tables.change_table({4: answers, 8: longer}, "Llama-7B")
    assert table.loc[("task vector", "bijection"), "n\u00a0=\u00a08"] == "1.00"
    assert table.loc[("task vector", "bijection")].iloc[-1] == "0.42 → 0.43"


@pytest.mark.parametrize("rule", ["right", "word"])
def test_effects_stand_in_the_table_by_either_rule(answers, rule):
    table = tables.effect_table(answers)
    expected = effects(answers, rule)["beyond"]
    row = table.loc["Its excess on bijections is larger than on unions"]
    assert row[f"By {tables.RULES[rule]}"] == str(mean_over_units(expected))
    assert row["Tasks"] == 3


def test_mixing_costs_what_the_accuracies_fall_by(answers):
    table = tables.mixing(answers)
    lost = {
        method: [mean(answers, base, "one way", method) - mean(answers, base, "union", method) for base in TASKS]
        for method in METHODS
    }
    assert table.loc["union", "Drop of ICL"] == str(mean_over_units(lost["icl"]))
    assert table.loc["union", "Excess"] == str(mean_over_units(np.subtract(lost["vector"], lost["icl"])))


def test_exceptions_stand_beside_what_was_published(answers):
    copied = answers.assign(base="copy", kind="exception", icl_right=True)
    row = tables.exceptions(pd.concat([answers, copied])).loc["copy"]
    assert row["ICL"].startswith("1.00")
    assert row["Task vector"] == str(accuracy(copied, "vector"))
    assert row["Published vector"] == "0.98"


def test_every_kind_of_line_and_every_task_is_drawn(answers):
    def marks(chart, kind):
        return vl_convert.vegalite_to_svg(chart.to_dict()).count(f'aria-roledescription="{kind}"')

    shares = tables.written_shares(answers)
    assert marks(figures.lines_written(shares, "Shares."), "bar") == len(shares) == 2 * 3 * len(WRITTEN)
    models = {"ours": accuracies(answers)}
    panels = [f"ours: {method}" for method in METHODS.values()]
    slopes = figures.slopes(tables.slopes(answers, models), panels, "Slopes.")
    assert marks(slopes, "line mark") == len(panels) * (len(TASKS) + 1)  # and their mean
    lengths = figures.lengths(tables.lengths({4: answers, 8: answers}), "Lengths.")
    assert marks(lengths, "line mark") == len(KINDS) * len(METHODS) * (len(TASKS) + 1)
