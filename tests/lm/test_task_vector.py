"""ICL and task vector are scored on what the model writes, and the layer is chosen on other queries."""

import pytest
import torch

from task_vectors.lm import task_vector
from task_vectors.lm.answers import end_of_line_ids
from task_vectors.lm.interventions import Continuation, SweepScores, capture, continue_greedily, inject
from task_vectors.lm.task_vector import RULES, begins_with_word, choose_layers, evaluate
from task_vectors.lm.tokens import tokenize
from task_vectors.prompts.few_shot import few_shot_prompts
from task_vectors.tasks.catalog import get_task
from task_vectors.tasks.task import Task, bijection

NUMBERS = Task("number_to_word", "test", tuple((f"n{i}", f"W{i}") for i in range(40)))
BOTH_WAYS = bijection(NUMBERS)
AT_ONE = {"right": 1, "word": 1}


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("cat", "cat", True),
        ("cats", "cat", False),
        ("cat", "cats", False),
        ("cat and dog", "cat", True),
        ("cat.", "cat", True),
        ("Cat", "cat", False),
        ("the cat", "cat", False),
        ("", "cat", False),
        ("a1", "a", False),
        ("café", "café", True),
        ("cafés", "café", False),
        ("café", "caf", False),
        ("New York", "New York", True),
        ("New Yorker", "New York", False),
        ("New", "New York", False),
        ("Guinea-Bissau", "Guinea-Bissau", True),
        ("Guinea-Bissau", "Guinea", True),  # a hyphen ends a word
        ("Guinea", "Guinea-Bissau", False),
    ],
)
def test_begins_with_word(text, word, expected):
    assert begins_with_word(text, word) is expected


@pytest.mark.parametrize(
    ("exact", "log_prob", "best"),
    [
        # one more exact answer beats any log-probability
        ([[1, 0, 0], [1, 1, 1]], [[-90, -1, -1], [-90, -1, -1]], 0),
        ([[0, 1, 1], [0, 0, 1]], [[-1, -1, -90], [-1, -1, -90]], 2),
        # the mean log-probability decides between equals, however low it is
        ([[1, 1, 1], [0, 0, 0]], [[-3, -2, -4], [-3, -2, -4]], 1),
        ([[1, 1, 0], [0, 0, 0]], [[-80, -60, -1], [-80, -60, -1]], 1),
        ([[0, 0, 0], [0, 0, 0]], [[-900, -800, -700], [-900, -800, -700]], 2),
        # which prompt is answered does not count, only how many are
        ([[1, 0, 0], [0, 1, 0]], [[-9, -1, -1], [-1, -5, -1]], 1),
    ],
)
def test_choose_layers(tiny_llama, monkeypatch, exact, log_prob, best):
    """Each rule goes by its own score: exact answers or first tokens."""
    decisive, log_prob = torch.tensor(exact).bool(), torch.tensor(log_prob).float()
    none = torch.zeros_like(decisive)
    prompts = few_shot_prompts(NUMBERS, 2, 2, 0, pool="selection")
    for rule, scores in (
        ("right", SweepScores(log_prob, first_token=none, exact=decisive)),
        ("word", SweepScores(log_prob, first_token=decisive, exact=none)),
    ):
        monkeypatch.setattr(task_vector, "layer_sweep", lambda *_args, scores=scores: scores)
        layers, returned = choose_layers(tiny_llama, prompts)
        assert layers[rule] == best
        assert returned is scores


def test_choose_layers_tries_each_prompts_own_vector(tiny_llama, monkeypatch):
    """What goes into prompt i's zero-shot form is the state of its prefix's vector prompt."""
    prompts = few_shot_prompts(NUMBERS, 3, 6, 0, queries_per_prefix=2, pool="selection")
    called = []
    monkeypatch.setattr(
        task_vector, "layer_sweep", lambda *args: called.append(args) or SweepScores(*torch.zeros(3, 6, 3))
    )
    choose_layers(tiny_llama, prompts)
    [(_, texts, vectors, answers)] = called
    assert texts == prompts.zero_shot_texts
    assert answers == prompts.completions
    for i, prefix in enumerate(prompts.prefix):
        own = capture(tiny_llama, [prompts.vector_texts[prefix]])[0]
        torch.testing.assert_close(vectors[i], own, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def samples():
    return [few_shot_prompts(BOTH_WAYS, 4, 12, seed, queries_per_prefix=3) for seed in (0, 1)]


@pytest.fixture(scope="module")
def room(samples):
    """Bytes of the longest answer with its space, and one for the end of its line."""
    return 1 + max(len(completion) for prompts in samples for completion in prompts.completions)


def written_by_generate(lm, text, room) -> str:
    """The first line that transformers' own greedy decoding writes."""
    ids = torch.tensor(tokenize(lm, [text]))
    made = lm.model.generate(ids, max_new_tokens=room, do_sample=False, pad_token_id=0, eos_token_id=None)
    tokens, ends = made[0, ids.shape[1] :].tolist(), set(end_of_line_ids(lm).tolist())
    stop = next((i for i, token in enumerate(tokens) if token in ends), room)
    return lm.tokenizer.decode(tokens[:stop], skip_special_tokens=True).strip(" ")


def test_there_is_room_for_the_longest_answer_of_all_samples(tiny_llama, samples, room):
    assert task_vector.answer_room(tiny_llama, samples) == room
    longer = few_shot_prompts(get_task("present_to_past_perfect"), 2, 4, 0)
    longest = max(map(len, longer.completions))
    assert task_vector.answer_room(tiny_llama, [*samples, longer]) == longest + 1


def test_icl_answers_are_what_each_prompt_alone_gives(tiny_llama, samples, room):
    tables = task_vector.test_answers(tiny_llama, samples, AT_ONE, room)
    for prompts, table in zip(samples, tables, strict=True):
        alone = [continue_greedily(tiny_llama, [text], max_tokens=room).texts[0] for text in prompts.texts]
        assert table["icl"].tolist() == alone
        assert len(set(alone)) > 1
        assert alone[:2] == [written_by_generate(tiny_llama, text, room) for text in prompts.texts[:2]]


@pytest.mark.parametrize("layer", [0, 2])
def test_vector_answers_are_what_an_injection_by_hand_gives(tiny_llama, samples, room, layer):
    """The state of the prompt's own vector prompt, put in after `layer` at the zero-shot prompt's last token."""
    by_hand, untouched = [], []
    for prompts in samples:
        for prefix, text in list(zip(prompts.prefix, prompts.zero_shot_texts, strict=True))[::4]:
            vector = capture(tiny_llama, [prompts.vector_texts[prefix]])[:, layer]
            with inject(tiny_llama, vector, layer):
                by_hand.append(written_by_generate(tiny_llama, text, room))
            untouched.append(written_by_generate(tiny_llama, text, room))
    tables = task_vector.test_answers(tiny_llama, samples, {"right": layer, "word": 1}, room)
    assert [text for table in tables for text in table["vector"][::4]] == by_hand
    assert len(set(by_hand)) > 1
    assert by_hand != untouched


def test_columns_describe_the_prompts(tiny_llama, samples, room):
    for prompts, table in zip(samples, task_vector.test_answers(tiny_llama, samples, AT_ONE, room), strict=True):
        assert list(table.columns) == [
            *("prefix", "group", "part", "vector_part", "query", "answer", "demo_answers", "icl", "vector"),
            *("icl_right", "icl_word", "vector_right", "vector_word"),
        ]
        for i, row in enumerate(table.itertuples()):
            pair = BOTH_WAYS.pairs.index((row.query, row.answer))
            assert (row.part, row.group) == (BOTH_WAYS.parts[pair], BOTH_WAYS.groups[pair])
            source = BOTH_WAYS.pairs.index(prompts.vector_pairs[row.prefix])
            assert row.vector_part == BOTH_WAYS.parts[source]
            # The demonstrations are those of the prompt that was answered.
            assert [line.split(" → ")[1] for line in prompts.texts[i].split("\n")[:-1]] == list(row.demo_answers)
            assert prompts.texts[i].endswith(f"Example:{row.query} →")


def test_right_is_the_whole_line_and_word_its_beginning(tiny_llama, monkeypatch):
    task = Task(
        "singular_to_plural", "test", tuple((f"{letter}at", f"{letter}ats") for letter in "abcdefghijklmnopqrst")
    )
    prompts = few_shot_prompts(task, 2, 3, 0, queries_per_prefix=3)
    first, second, third = prompts.answers
    icl, vector = [first, f"{second} and", f"{third}x"], [first[:-1], f"the {second}", f"{third}."]

    def write(lm, texts, *, vectors=None, **_settings):
        # In the run of ICL each prefix comes with its vector prompt first, whose answer is not scored.
        lines = vector if vectors is not None else [first, *icl]
        return Continuation(lines, torch.zeros(len(texts)), torch.zeros(len(texts), lm.n_layers, lm.d_model))

    monkeypatch.setattr(task_vector, "continue_greedily", write)
    [table] = task_vector.test_answers(tiny_llama, [prompts], AT_ONE, room=9)
    assert table["icl_right"].tolist() == [True, False, False]
    assert table["icl_word"].tolist() == [True, True, False]
    assert table["vector_right"].tolist() == [False, False, False]
    assert table["vector_word"].tolist() == [False, False, True]


def test_each_rule_judges_the_texts_of_its_own_layer(tiny_llama, samples, room):
    exact, word = (task_vector.test_answers(tiny_llama, samples, dict.fromkeys(RULES, at), room)[0] for at in (0, 2))
    [both, _] = task_vector.test_answers(tiny_llama, samples, {"right": 0, "word": 2}, room)
    assert both["vector"].tolist() == exact["vector"].tolist() != word["vector"].tolist()
    assert both["vector_right"].tolist() == exact["vector_right"].tolist()
    assert both["vector_word"].tolist() == word["vector_word"].tolist()


def test_evaluate_joins_the_seeds(tiny_llama):
    sizes = {"n_prompts": 6, "n_selection": 4, "queries_per_prefix": 2}
    result = evaluate(tiny_llama, BOTH_WAYS, 4, [3, 5], **sizes)
    answers = result.answers
    assert answers["seed"].tolist() == [3] * 6 + [5] * 6
    assert answers.index.tolist() == list(range(12))
    assert set(answers["task"]) == {BOTH_WAYS.name}
    assert set(answers["category"]) == {"bijection"}
    assert set(answers["n_demos"]) == {4}
    assert result.selection.exact.shape == (4, tiny_llama.n_layers)
    # Each seed's rows are what that seed's prompts give by themselves, at the common layers.
    for seed, rows in answers.groupby("seed"):
        prompts = few_shot_prompts(BOTH_WAYS, 4, 6, seed, queries_per_prefix=2)
        [alone] = task_vector.test_answers(
            tiny_llama, [prompts], result.layers, task_vector.answer_room(tiny_llama, [prompts])
        )
        assert rows[alone.columns].to_dict("list") == alone.to_dict("list")


@pytest.mark.parametrize("task", [BOTH_WAYS, get_task("english_and_french"), get_task("antonym"), get_task("copy")])
def test_no_seed_tests_a_query_that_the_layer_was_chosen_on(tiny_llama, monkeypatch, task):
    chosen_on = []

    def spy(lm, prompts):
        chosen_on.extend(zip(prompts.queries, prompts.groups, strict=True))
        return choose_layers(lm, prompts)

    monkeypatch.setattr(task_vector, "choose_layers", spy)
    sizes = {"n_prompts": 40, "n_selection": 40, "queries_per_prefix": 20}
    answers = evaluate(tiny_llama, task, 1, [0, 1, 2], **sizes).answers
    queries, groups = (set(values) for values in zip(*chosen_on, strict=True))
    assert not queries & set(answers["query"])
    assert not groups & set(answers["group"])


@pytest.mark.slow
def test_real_gemma_solves_gerunds_both_ways_of_asking(gemma):
    """Most by ICL and by vector, at a layer inside the model."""
    result = evaluate(gemma, get_task("present_to_gerund"), 10, [0], n_prompts=16, n_selection=8)
    answers = result.answers
    assert answers["icl_right"].mean() >= 0.8
    assert answers["vector_right"].mean() >= 0.6
    assert (answers["icl"][answers["icl_right"]] == answers["answer"][answers["icl_right"]]).all()
    # The chosen layer lies inside, where the task has been read and the query not yet been answered.
    assert 3 <= result.layers["right"] <= 14
