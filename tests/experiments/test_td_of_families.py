"""Prompts of a family ask all tasks about the same inputs; votes, conditions and surface do what they say."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from task_vectors.experiments import td_of_families
from task_vectors.experiments.td_of_families import PREDICTION, votes
from task_vectors.lm.tokens import answer_tokens, tokenize, up_to_answer
from task_vectors.measures.decodability import task_decodability
from task_vectors.measures.prompt_surface import surface_features, surface_votes
from task_vectors.prompts.families import CONDITIONS, FamilyPrompts, family_prompts
from task_vectors.records.store import Record, recorded
from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.families.catalog import get_family
from task_vectors.tasks.families.pos import pos_tagging

FAMILIES = {"bitwise": bitwise_arithmetic(), "pos": pos_tagging()}
both = pytest.mark.parametrize("name", FAMILIES)


def inputs_of(demos):
    return tuple(x for x, _ in demos)


@both
@pytest.mark.parametrize("condition", CONDITIONS)
def test_tasks_differ_in_answers_alone(name, condition):
    family = FAMILIES[name]
    prompts = family_prompts(family, 3, 4, 7, condition=condition)
    assert prompts.labels.tolist() == [k for k in range(7) for _ in range(4)]
    assert prompts.groups.tolist() == list(range(4)) * 7
    for group in range(4):
        mine = [i for i in range(28) if prompts.groups[i] == group]
        assert len({prompts.queries[i] for i in mine}) == len({inputs_of(prompts.demos[i]) for i in mine}) == 1
        for i, task in zip(mine, family.tasks, strict=True):
            answer = prompts.completions[i].strip()
            assert answer == dict(family.sample(task, 4, 7))[prompts.queries[i]]
            assert prompts.texts[i].endswith(family.template.format(x=prompts.queries[i], y="").rstrip())


@both
def test_queries_and_demonstrations_share_no_input(name):
    prompts = family_prompts(FAMILIES[name], 10, 30, 0)
    shown = {x for demos in prompts.demos for x in inputs_of(demos)}
    assert not shown & set(prompts.queries)
    assert all(len(set(inputs_of(demos))) == 10 for demos in prompts.demos)
    held_out = family_prompts(FAMILIES[name], 10, 12, 0, pool="selection")
    assert not set(held_out.queries) & (shown | set(prompts.queries))


@both
@pytest.mark.parametrize("n_demos", [2, 5])
def test_permuted_answers_are_the_same_in_other_places(name, n_demos):
    plain, permuted = (family_prompts(FAMILIES[name], n_demos, 6, 1, condition=c) for c in ("plain", "permuted"))
    for before, after in zip(plain.demos, permuted.demos, strict=True):
        assert inputs_of(before) == inputs_of(after)
        assert sorted(y for _, y in before) == sorted(y for _, y in after)
        if len({y for _, y in before}) == n_demos:  # all answers differ: then none may stay
            assert all(a[1] != b[1] for a, b in zip(before, after, strict=True))
    assert plain.completions == permuted.completions


@both
def test_the_task_in_words(name):
    family = FAMILIES[name]
    plain, told, words = (family_prompts(family, 2, 2, 0, condition=c) for c in ("plain", "told", "words alone"))
    for i, label in enumerate(plain.labels):
        heading = family.describe(family.tasks[label]) + "\n"
        assert told.texts[i] == heading + plain.texts[i]
        assert words.texts[i].startswith(heading)
    null = plain.labels == 6
    assert [words.demos[i] for i in range(12)] == [plain.demos[i] for i in null.nonzero()[:, 0]] * 6


def test_a_space_that_is_a_token_of_its_own_comes_before_the_answer(gemma):
    """In gemma a digit's space is one, and a word's is not: the state is read at the token before the answer itself."""
    for name, moves in (("bitwise", True), ("pos", False)):
        plain = family_prompts(FAMILIES[name], 2, 2, 0)
        moved = up_to_answer(gemma, plain)
        assert [a + b for a, b in zip(moved.texts, moved.completions, strict=True)] == [
            a + b for a, b in zip(plain.texts, plain.completions, strict=True)
        ]
        assert (moved.texts != plain.texts) == moves
        assert up_to_answer(gemma, moved) == moved
        tails = answer_tokens(gemma, list(moved.texts), list(moved.completions))
        assert all(gemma.tokenizer.decode([tail[0]]).strip() for tail in tails)
        whole = tokenize(gemma, [text + answer for text, answer in zip(plain.texts, plain.completions, strict=True)])
        assert [a + b for a, b in zip(tokenize(gemma, list(moved.texts)), tails, strict=True)] == whole


def test_bad_arguments_are_told():
    family = FAMILIES["bitwise"]
    for arguments, message in (
        ((4, 0, 0), "n_prompts 1 or more; got 4 and 0"),
        ((-1, 5, 0), "n_demos must be 0 or more"),
        ((4, 300, 0), "has 249 inputs, too few for 300"),
        ((300, 1, 0), "has 247 inputs, too few for 300"),
    ):
        with pytest.raises(ValueError, match=message):
            family_prompts(family, *arguments)
    with pytest.raises(ValueError, match="at least two demonstrations; got n_demos = 1"):
        family_prompts(family, 1, 5, 0, condition="permuted")
    with pytest.raises(ValueError, match="unknown condition 'mixed'; there are: plain, permuted, told, words alone"):
        family_prompts(family, 1, 5, 0, condition="mixed")
    with pytest.raises(ValueError, match="unknown task family 'chess'; there are: pos, written, bitwise"):
        get_family("chess", {})


def test_votes_are_those_of_decodability_with_and_without_null():
    prompts = family_prompts(FAMILIES["bitwise"], 2, 15, 0)
    states = torch.randn(105, 2, 8, generator=torch.Generator().manual_seed(0)) + prompts.labels[:, None, None] / 3
    found = votes(states, prompts)
    for kind, metric, n_tasks in (("euclidean", "euclidean", 7), ("cosine", "cosine", 7), ("no_null", "euclidean", 6)):
        asked = prompts.labels < n_tasks
        labels = prompts.labels[asked]
        expected = task_decodability(states[asked], labels, metric=metric, groups=prompts.groups[asked])  # [L, n_tasks]
        hits = (found[kind][asked] == labels[:, None]).float()
        torch.testing.assert_close(torch.stack([hits[labels == k].mean(0) for k in range(n_tasks)], 1), expected)
    assert (found["no_null"][prompts.labels == 6] == -1).all()


@given(seed=st.integers(0, 1000))
def test_ones_are_counted(seed):
    prompts = family_prompts(FAMILIES["bitwise"], 3, 2, seed)
    for features, demos in zip(surface_features("bitwise", prompts), prompts.demos, strict=True):
        assert features.tolist() == sorted(sum(map(int, y)) for _, y in demos)


def test_places_and_lengths():
    prompts = family_prompts(FAMILIES["pos"], 2, 3, 0)
    for features, query, demos in zip(surface_features("pos", prompts), prompts.queries, prompts.demos, strict=True):
        places = sorted(x.split(" ").index(y) for x, y in demos)
        assert features.tolist() == [*places, *sorted(len(x.split(" ")) for x, _ in demos), len(query.split(" "))]


def test_a_no_break_space_is_part_of_a_word():
    """As in "5 000" of a French treebank: the place of an answer is that among the words that the family counts."""
    sentence = "Il a 5\xa0000 chats ici"
    demos = (((sentence, "ici"),),)
    prompts = FamilyPrompts(("",), ("",), (sentence,), demos, torch.tensor([0]), torch.tensor([0]))
    assert surface_features("pos", prompts).tolist() == [[4, 5, 5]]


def test_surface_votes_never_hear_their_own_group():
    """Labels that a group's own members would give away, and nothing else does, are not found."""
    groups = torch.arange(40).repeat(2)
    labels = torch.arange(2).repeat_interleave(40)
    features = groups[:, None] * 100.0 + labels[:, None]
    found = surface_votes(features, labels, groups)
    others = groups != groups[0]
    distances, nearest = KNeighborsClassifier(10).fit(features[others], labels[others]).kneighbors(features[:1])
    assert distances.min() >= 99
    assert found["neighbors"].shape == found["classifier"].shape == (80,)
    plain = surface_votes(labels[:, None].float(), labels, groups)
    assert all(torch.equal(named, labels) for named in plain.values())


def test_counting_ones_tells_operators_that_differ_in_them():
    """As the paper's TD does, with no model: AND and NOR are told from OR and NAND, and XOR and XNOR are not."""
    prompts = family_prompts(FAMILIES["bitwise"], 4, 100, 0)
    named = surface_votes(surface_features("bitwise", prompts), prompts.labels, prompts.groups)["classifier"]
    few_ones, many = (torch.isin(named, torch.tensor(members)) for members in ([0, 3], [1, 2]))
    assert few_ones[prompts.labels == 0].float().mean() > 0.7
    assert many[prompts.labels == 0].float().mean() < 0.05
    assert (named == prompts.labels)[prompts.labels == 4].float().mean() < 0.6


@pytest.fixture
def tiny_record(tiny_llama, monkeypatch, tmp_path) -> Record:
    monkeypatch.setattr(td_of_families, "checked_model", lambda *_: tiny_llama)
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    facts = {"model": "tiny", "weights": "", "dtype": "float32", "family": "bitwise", "options": {"digits": 3}}
    sizes = {"n_demos": 2, "n_prompts": 3, "seed": 0}
    return recorded(PREDICTION, **facts, source="", **sizes, pool="test", condition="plain")


def test_a_record_is_verified(tiny_record):
    table = tiny_record.table("prompts")
    assert table["class"].tolist() == [k for k in range(7) for _ in range(3)]
    assert tiny_record.tensors("votes")["cosine"].shape == (21, 3)
    assert tiny_record.tensors("pairs")["td"].shape == (3, 7, 7)
    assert tiny_record.tensors("components")["components"].shape == (21, 3, 2)
    assert all(comparison.agrees for comparison in PREDICTION.verify(tiny_record))
