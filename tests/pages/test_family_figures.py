"""Figures of the task families hold what their tables do."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from task_vectors.pages.family_figures import by_task_and_kind, components, pair_maps, scatter, td_curves
from task_vectors.pages.from_records.families import TITLES

FAMILIES = {
    "bitwise": SimpleNamespace(tasks=("AND", "OR", "Null")),
    "pos": SimpleNamespace(tasks=("Noun", "Verb", "Null")),
}


def rows(chart):
    """The rows of the data that a chart, or the first of several, draws."""
    spec = chart.to_dict()
    [data] = {name: data for name, data in spec["datasets"].items() if len(data) > 1}.values()
    return data


def test_a_pair_of_tasks_has_one_number():
    td = torch.tensor([[torch.nan, 0.5, 0.6], [0.7, torch.nan, 0.8], [0.8, 1.0, torch.nan]])
    cells = {(cell["row"], cell["column"]): cell["td"] for cell in rows(pair_maps({"pos": td}, FAMILIES))}
    assert len(cells) == 6
    assert cells["Noun", "Verb"] == cells["Verb", "Noun"] == pytest.approx(0.6)
    assert cells["Verb", "Null"] == pytest.approx(0.9)


def test_components_are_colored_by_task():
    places = torch.arange(12.0).view(6, 2)  # two prompts of each task
    points = rows(components({1: places, 4: places + 100}, "bitwise", FAMILIES["bitwise"].tasks))
    by_task = [(point["demonstrations"], point["task"], point["first"]) for point in points]
    assert by_task[:3] == [(1, "AND", 0), (1, "AND", 2), (1, "OR", 4)]
    assert by_task[-1] == (4, "Null", 110)


def test_a_scatter_leaves_out_other_families_and_null():
    table = pd.DataFrame(
        [
            {"model": "a", "family": TITLES[family], "task": task, "demonstrations": 1, "td": 0.5, "accuracy": 0.5}
            for family, tasks in FAMILIES.items()
            for task in tasks.tasks
        ]
    )
    points = rows(scatter(table, "pos", ("Noun", "Verb"), ["a"]))
    assert [point["task"] for point in points] == ["Noun", "Verb"]


def test_panels_have_the_titles_of_the_families():
    table = pd.DataFrame(
        [
            {"family": name, "task": task, "what": "states", "share": 0.5, "layer": 1, "td": 0.5, "chosen layer": 1}
            for name, family in FAMILIES.items()
            for task in family.tasks
        ]
    )
    dots = by_task_and_kind(table, "share", FAMILIES, x_title="Share", description="Shares.")
    lines = td_curves(table, "task", 1 / 3, column="family", description="TD by layer.")
    for chart in (dots, lines):
        assert {row["family"] for row in rows(chart)} == set(TITLES.values())
