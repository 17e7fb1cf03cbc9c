"""What chapter 11 makes of its records, on answers whose accuracies are known."""

import numpy as np
import pandas as pd
import pytest
import vl_convert

from task_vectors.experiments import bijections as experiment
from task_vectors.experiments.bijections import BOTH_WAYS, CYCLE_FORMS, FORMS, HALF_FORMS, PARTNERS
from task_vectors.lm.task_vector import begins_with_word
from task_vectors.measures.statistics import mean_over_units
from task_vectors.pages import bijection_figures as figures
from task_vectors.pages.from_records import bijection_tables as tables
from task_vectors.pages.from_records.bijections import (
    COPY,
    METHODS,
    WRITTEN,
    by_direction,
    by_part,
    common_letters,
    effects,
    follows,
    level,
    of_solved,
    over_families,
    read_answers,
    solved,
    too_few,
    written,
)
from task_vectors.records.store import recorded

# Three pairs of tasks that stand in a union, each task of a family of its own; one has a cycle.
TASKS = (
    "to_upper",
    "english_to_french",
    "present_to_gerund",
    "singular_to_plural",
    "number_to_digits",
    "state_to_code",
)
PARTNER = {TASKS[a]: TASKS[b] for a, b in ((0, 3), (3, 0), (1, 2), (2, 1), (4, 5), (5, 4))}
# Each form: its kind, and the direction that each part asks for.
ASKED = {
    "X → Y": ("one way", ["X → Y"]),
    "Y → X": ("one way", ["Y → X"]),
    "X ↔ Y": ("bijection", ["X → Y", "Y → X"]),
    "union": ("union", ["X → Y", "Y → X"]),
    "X → Y + X → Y": ("same way in halves", ["X → Y", "X → Y"]),
    "X → Y + Y → X": ("both ways in halves", ["X → Y", "Y → X"]),
    "X → Y → Z → X": ("cycle", ["X → Y of three", "Y → Z of three", "Z → X of three"]),
    "X → Y of three": ("one way", ["X → Y of three"]),
    "Y → Z of three": ("one way", ["Y → Z of three"]),
    "Z → X of three": ("one way", ["Z → X of three"]),
}


@pytest.fixture
def answers():
    """For each task and form 60 prompts, right at random with a rate of its own for ICL and vector."""
    rng = np.random.default_rng(3)
    rows = []
    for base in TASKS:
        for form, (kind, directions) in ASKED.items():
            if (kind == "cycle" or "three" in form) and base != "number_to_digits":
                continue
            rates = {"icl": rng.uniform(0.85, 1), "vector": rng.uniform(0.3, 0.9)}
            for i in range(60):
                part = i % len(directions)
                of = PARTNER[base] if form == "union" and part == 1 else base
                row = {"base": base, "form": form, "kind": kind, "of": of, "direction": directions[part]}
                row |= {"part": part, "vector_part": i // 3 % len(directions), "seed": i // 20}
                for method, rate in rates.items():
                    right = rng.random() < rate
                    line = "right" if right else rng.choice(WRITTEN[1:])
                    row |= {f"{method}_right": right, f"{method}_word": right or rng.random() < 0.1}
                    row |= {f"{method}_kind": line, f"{method}_copied": line == COPY}
                    row[f"{method}_uncopied"] = np.nan if line == COPY else float(right)
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture
def none_solved(answers):
    """What there is where no task passes: X ↔ Y alone, and ICL answers in one direction."""
    both = answers[answers.form == "X ↔ Y"].reset_index(drop=True)
    return both.assign(icl_right=both.part == 0, icl_word=both.part == 0)


def share(answers, method, rule="right", **what):
    """The accuracy, counted prompt by prompt."""
    for name, value in what.items():
        answers = answers[answers[name] == value]
    hits = [hit for hit in answers[f"{method}_{rule}"] if hit == hit]
    return sum(hits) / len(hits)


def lost(answers, task, form, method, rule="right"):
    """What a task loses from its directions alone to a form, the mean of the directions."""
    alone = {way: share(answers, method, rule, base=task, form=way) for way in dict.fromkeys(ASKED[form][1])}
    if form == "union":  # X → Y stands in the task's own, Y → X in the partner's
        places = [{"base": task, "part": 0}, {"base": PARTNER[task], "part": 1}]
    elif form == "X → Y + X → Y":  # both parts ask for X → Y
        places = [{"base": task}]
    else:
        places = [{"base": task, "part": part} for part in range(len(alone))]
    mixed = [share(answers, method, rule, form=form, **place) for place in places]
    return np.mean(list(alone.values())) - np.mean(mixed)


@pytest.mark.parametrize("rule", ["right", "word", "copied", "uncopied"])
def test_accuracies_of_directions_are_shares_of_prompts(answers, rule):
    table = by_direction(answers, solved(answers), rule)
    assert solved(answers).all()
    assert set(table.index.get_level_values("task")) == set(TASKS)
    for (task, direction), row in table.iterrows():
        for (method, kind), value in row.items():
            asked = {"of": task, "direction": direction, "kind": kind}
            if answers[list(asked)].eq(pd.Series(asked)).all(axis=1).any():
                assert value == pytest.approx(share(answers, method, rule, **asked))
            else:
                assert np.isnan(value)


def test_a_mixture_counts_only_if_icl_solves_each_of_its_parts(answers):
    asked = (answers.base == "to_upper") & (answers.form == "union")
    for part in (0, 1):
        short = answers.copy()
        rows = short[asked & (short.part == part)].index  # thirty
        short.loc[rows, "icl_right"] = np.arange(len(rows)) < 18
        assert solved(short).all()  # .6
        short.loc[rows, "icl_right"] = np.arange(len(rows)) < 17
        passing = solved(short)
        assert passing[~passing].index.tolist() == [("to_upper", "union")]
        table = by_direction(short, passing)["vector", "union"].dropna()
        # Its parts are asked of two tasks, and neither has the other direction alone.
        assert ("to_upper", "X → Y") not in table.index
        assert ("singular_to_plural", "Y → X") not in table.index
        assert ("to_upper", "Y → X") in table.index
        assert set(level(by_direction(short, passing), "icl", "union").index) == set(TASKS) - {
            "to_upper",
            "singular_to_plural",
        }
        kept = of_solved(short, passing)
        assert len(short) - len(kept) == 60
        assert not ((kept.base == "to_upper") & (kept.form == "union")).any()


@pytest.mark.parametrize("rule", ["right", "word", "uncopied"])
def test_the_effects_are_differences_of_drops(answers, rule):
    found = effects(by_direction(answers, solved(answers), rule))

    def beyond(task, form):
        return lost(answers, task, form, "vector", rule) - lost(answers, task, form, "icl", rule)

    for task in TASKS:
        bijection, union = beyond(task, "X ↔ Y"), beyond(task, "union")
        assert found["excess"][task] == pytest.approx(bijection)
        assert found["beyond"][task] == pytest.approx(bijection - union)
        assert found["apart"][task] == pytest.approx(bijection - beyond(task, "X → Y + Y → X"))
        assert found["halves"][task] == pytest.approx(beyond(task, "X → Y + X → Y"))
    assert found["cycles"].index.tolist() == ["number_to_digits"]
    expected = beyond("number_to_digits", "X → Y → Z → X") - beyond("number_to_digits", "union")
    assert found["cycles"].item() == pytest.approx(expected)


def test_a_task_without_its_directions_alone_is_left_out(answers):
    asked = answers[~((answers.base == "to_upper") & (answers.form == "Y → X"))]
    found = effects(by_direction(asked, solved(asked)))
    assert set(TASKS) - set(found["excess"].index) == {"to_upper"}
    assert set(TASKS) - set(found["beyond"].index) == {"to_upper"}
    assert set(found["halves"].index) == set(TASKS)  # X → Y is there


def test_a_family_counts_once():
    values = pd.Series({"english_to_french": 0.2, "english_to_italian": 0.4, "to_upper": 0.1, "state_to_code": 0.6})
    assert over_families(values) == mean_over_units([0.3, 0.1, 0.6])
    assert over_families(values, dict.fromkeys(values.index, "one")).mean == pytest.approx(0.325)
    assert too_few(values) == ""
    assert too_few(values[:3]) == "below the gate in all families but 2"
    assert too_few(values[:0]) == "below the gate in all families"


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


def test_common_letters_count_from_the_first_on():
    assert common_letters("Straße", "STRASSEN") == 7  # case-folded
    assert common_letters("abc", "xbc") == 0
    assert common_letters("", "abc") == 0


def test_records_of_every_form_are_read_with_what_they_were_asked(tiny_facts):
    facts = tiny_facts | {"n_demos": 2, "seeds": [0, 5], "n_prompts": 4, "n_selection": 4, "template": "{x} → {y}"}
    forms = (*FORMS, *HALF_FORMS, *CYCLE_FORMS)
    assert set(forms) == set(ASKED)
    records = [recorded(BOTH_WAYS, task="number_to_digits", form=form, **facts) for form in forms]
    answers = read_answers(records)
    assert len(answers) == 8 * len(forms)
    for row in answers.itertuples():
        kind, directions = ASKED[row.form]
        assert (row.base, row.kind, row.direction) == ("number_to_digits", kind, directions[row.part])
        assert row.of == (PARTNERS["number_to_digits"] if row.form == "union" and row.part else "number_to_digits")
        for method in METHODS:
            line, copied = getattr(row, f"{method}_kind"), getattr(row, f"{method}_copied")
            assert (line == "right") == getattr(row, f"{method}_right")
            assert copied == (line == COPY)
            assert not copied or begins_with_word(getattr(row, method), row.query)
            rest = getattr(row, f"{method}_uncopied")
            assert np.isnan(rest) if copied else rest == (line == "right")
    first = experiment.read_evaluation(records[0])
    assert set(answers.layer_right[:8]) == {first.layers["right"]}
    assert set(answers.of[answers.form == "union"]) == {"number_to_digits", PARTNERS["number_to_digits"]}


def test_a_vector_follows_the_query_that_it_was_read_at(answers):
    found = follows(answers, "union")
    for base in TASKS:
        gaps = []
        for part in (0, 1):
            what = {"base": base, "form": "union", "part": part}
            same, other = (share(answers, "vector", **what, vector_part=at) for at in (part, 1 - part))
            gaps.append(same - other)
        assert found[base] == pytest.approx(np.mean(gaps))


def test_published_values_are_those_of_table_1():
    table = tables.published()
    french = table.loc["english_to_french"]
    assert french["icl", "one way"] == pytest.approx((0.83 + 0.82) / 2)
    assert french["vector", "bijection"] == 0.35
    by_hand = [0.40, 0.135, 0.16, 0.12, 0.355, 0.14, 0.075, 0.175]
    assert tables.published_excess() == pytest.approx(np.mean(by_hand))


def test_tables_hold_what_they_say(answers):
    passing = solved(answers)
    table = by_direction(answers, passing)

    drops = tables.losses(table)
    for kind, form in (("union", "union"), ("cycle", "X → Y → Z → X"), ("same way in halves", "X → Y + X → Y")):
        tasks = TASKS[4:5] if kind == "cycle" else TASKS
        values = {method: [lost(answers, task, form, method) for task in tasks] for method in METHODS}
        assert drops.loc[kind, "Drop of ICL"] == f"{np.mean(values['icl']):.2f}"
        assert drops.loc[kind, "Drop of the vector"] == f"{np.mean(values['vector']):.2f}"
        assert drops.loc[kind, "Excess"] == str(mean_over_units(np.subtract(values["vector"], values["icl"])))
        assert (drops.loc[kind, "Tasks"], drops.loc[kind, "Families"]) == (len(tasks), len(tasks))

    dots = tables.gate(answers)
    assert len(dots) == 2 * len(TASKS)
    [one] = dots[(dots.base == "state_to_code") & (dots.direction == "Y → X")].accuracy
    assert one == pytest.approx(share(answers, "icl", base="state_to_code", form="X ↔ Y", part=1))

    wide = tables.by_form(answers)
    assert len(wide) == 6 * 6 + 4
    row = wide.loc[("lower → upper", "X ↔ Y")]
    assert row["task vector", 0] == f"{share(answers, 'vector', base='to_upper', form='X ↔ Y', part=0):.2f}"
    assert row["task vector", 2] == ""
    assert row["", "solved"] == "✓"

    beside = tables.side_by_side(table)
    alone = [share(answers, "vector", base="to_upper", form=form) for form in ("X → Y", "Y → X")]
    assert beside.loc["lower → upper", ("task vector", "one way", "here")] == f"{np.mean(alone):.2f}"
    assert beside.loc["english → french", ("task vector", "bijection", "published")] == "0.35"
    assert beside.loc["english → italian", ("ICL", "bijection", "here")] == "–"  # not asked


def test_the_points_of_the_figure_are_the_accuracies(answers):
    points = tables.slopes(by_direction(answers, solved(answers)), "here")
    ours = points[points.panel == "here: task vector"]
    assert len(ours) == len(TASKS) * 4
    assert ours.group.value_counts().to_dict() == {"the others": 12, "English endings": 8, "translation": 4}
    union = ours[(ours.task == "state → code") & (ours.kind == "union")].accuracy.item()
    parts = [("state_to_code", 0), ("number_to_digits", 1)]
    assert union == pytest.approx(
        np.mean([share(answers, "vector", base=base, form="union", part=part) for base, part in parts])
    )
    theirs = points[points.panel.str.startswith("Llama-7B")]
    assert len(theirs) == 8 * 2 * 2
    assert set(theirs.kind) == {"one way", "bijection"}


def test_the_variants_count_in_other_ways(answers):
    passing = solved(answers)
    strong = answers.copy()
    weak = (strong.base == "state_to_code") & (strong.kind == "one way")
    strong.loc[weak, "vector_right"] = False
    strong.loc[(strong.base != "state_to_code") & (strong.kind == "one way"), "vector_right"] = True
    found = effects(by_direction(strong, passing))
    table = tables.variants(strong, passing)[tables.EFFECTS["beyond"]]
    beyond = found["beyond"][list(TASKS)]
    assert table["as above"] == str(mean_over_units(beyond))
    words = effects(by_direction(strong, passing, "word"))["beyond"]
    assert table["first word"] == str(mean_over_units(words))
    merged = [beyond[["present_to_gerund", "singular_to_plural"]].mean(), *beyond.drop(list(TASKS[2:4]))]
    assert table["English endings as one family"] == str(mean_over_units(merged))
    assert table["tasks whose vector is right one way in .50"] == str(mean_over_units(beyond.drop("state_to_code")))
    without = [beyond.drop(task).mean() for task in TASKS]
    assert table["any one family left out"] == f"{min(without):.2f} to {max(without):.2f}"
    seeds = [effects(by_direction(strong[strong.seed == seed], passing))["beyond"].mean() for seed in range(3)]
    assert table["any one seed alone"] == f"{min(seeds):.2f} to {max(seeds):.2f}"


def test_copies_are_counted_by_direction(answers):
    table = tables.copies(answers, solved(answers))
    assert table.index.tolist() == [(kind, way) for kind in tables.KINDS for way in ("X → Y", "Y → X")]
    for (kind, direction), row in table.iterrows():
        for method, label in METHODS.items():
            for rule, name in (("right", "exact line"), ("copied", "copies"), ("uncopied", "copies left out")):
                each = [share(answers, method, rule, of=task, kind=kind, direction=direction) for task in TASKS]
                assert row[label, name] == f"{np.mean(each):.2f}"


def test_choices_are_told_by_the_query_that_the_vector_was_read_at(answers):
    table = tables.choices(answers, solved(answers)).set_index(["kind", "read_at", "base", "direction"])
    assert len(table) == 2 * 3 * len(TASKS) * 2
    what = {"base": "to_upper", "kind": "union", "part": 1}
    found = table.right["union", "vector read at X → Y", "to_upper", "Y → X"]
    assert found == pytest.approx(share(answers, "vector", **what, vector_part=0))
    assert table.right["union", "ICL", "to_upper", "Y → X"] == pytest.approx(share(answers, "icl", **what))


def test_shares_of_what_is_written_are_those_of_the_prompts(answers):
    shares = tables.written_shares(answers, solved(answers))
    assert shares.groupby(["method", "kind"]).share.sum().to_numpy() == pytest.approx(np.ones(8))
    right = shares[(shares.method == "ICL") & (shares.kind == "union") & (shares.written == "right")].share.item()
    assert right == pytest.approx(answers[answers.kind == "union"].icl_right.mean())


def marks(chart, kind):
    return vl_convert.vegalite_to_svg(chart.to_dict()).count(f'aria-roledescription="{kind}"')


def test_every_kind_of_line_and_every_task_is_drawn(answers):
    passing = solved(answers)
    shares = tables.written_shares(answers, passing)
    assert marks(figures.lines_written(shares, "Shares."), "bar") == len(shares) == 2 * 4 * len(WRITTEN)
    points = tables.slopes(by_direction(answers, passing), "ours")
    points = points[points.panel.str.startswith("ours")]
    panels = [f"ours: {method}" for method in METHODS.values()]
    assert marks(figures.slopes(points, panels, "Slopes."), "line mark") == len(panels) * (len(TASKS) + 1)
    choices = figures.choices(tables.choices(answers, passing), "Choices.")
    assert marks(choices, "line mark") == 2 * 3 * (len(TASKS) + 1)
    assert marks(figures.gate(tables.gate(answers), "Gate."), "point") == 2 * len(TASKS)


def test_below_the_gate_the_page_still_has_its_tables(none_solved):
    passing = solved(none_solved)
    assert not passing.any()
    assert by_part(none_solved).to_numpy().tolist() == [[1.0, 0.0]] * len(TASKS)
    table = by_direction(none_solved, passing)
    found = effects(table)
    assert {len(values) for values in found.values()} == {0}
    assert {too_few(values) for values in found.values()} == {"below the gate in all families"}
    assert tables.losses(table).Tasks.tolist() == [0] * 5
    assert tables.losses(table).loc["bijection", "Excess"] == "–"
    assert (tables.by_form(none_solved)["", "solved"] == "–").all()
    assert tables.side_by_side(table).loc["lower → upper", ("ICL", "bijection", "here")] == "–"
    assert tables.variants(none_solved, passing).shape == (7, 3)
    assert set(tables.variants(none_solved, passing).to_numpy().ravel()) == {"–"}
    assert set(tables.copies(none_solved, passing).to_numpy().ravel()) == {"–"}
    assert tables.choices(none_solved, passing).empty
    assert follows(of_solved(none_solved, passing), "bijection").empty
    written = figures.lines_written(tables.written_shares(none_solved, passing), "None.")
    assert not any(written.to_dict()["datasets"].values())  # a chart of no rows says so; bars of no length do not
    assert set(tables.slopes(table, "here").panel) == {"Llama-7B, published: ICL", "Llama-7B, published: task vector"}
    assert figures.choices(tables.choices(none_solved, passing), "None.").to_dict()
