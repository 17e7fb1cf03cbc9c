"""The two families: right answers, the same inputs for all tasks, parts that share none, and a treebank as a source."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from task_vectors.prompts.few_shot import completion, render
from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.families.family import PARTS, TaskFamily
from task_vectors.tasks.families.pos import pos_tagging, written_sentences

POS, BITWISE, WRITTEN = pos_tagging(), bitwise_arithmetic(), written_sentences()
TRUTH = {  # the digit of the answer for the digits 00, 01, 10 and 11
    "AND": "0001",
    "NAND": "1110",
    "OR": "0111",
    "NOR": "1000",
    "XOR": "0110",
    "XNOR": "1001",
}
families = pytest.mark.parametrize("family", [POS, BITWISE, WRITTEN], ids=["pos", "bitwise", "written"])
large_families = pytest.mark.parametrize("family", [POS, BITWISE], ids=["pos", "bitwise"])
seeds = st.integers(0, 2**32)
parts = st.sampled_from(sorted(PARTS))


@families
def test_a_family_has_six_tasks_and_null_and_tells_them_in_words(family):
    assert isinstance(family, TaskFamily)
    assert len(family.tasks) == 7
    assert family.tasks[-1] == "Null"
    sentences = [family.describe(task) for task in family.tasks]
    assert len(set(sentences)) == 7
    assert all(task.lower() in sentence.lower() for task, sentence in zip(family.tasks[:6], sentences, strict=False))
    assert all(sentence.endswith(".") for sentence in sentences)


@families
@settings(max_examples=15)
@given(seed=seeds, part=parts, n=st.integers(0, 12))
def test_the_same_inputs_serve_all_tasks(family, seed, part, n):
    inputs = family.inputs(n, seed, part)
    assert len(set(inputs)) == n
    for task in family.tasks:
        assert family.sample(task, n, seed, part) == [(x, family.answer(task, x, seed)) for x in inputs]
    assert family.inputs(n // 2, seed, part) == inputs[: n // 2]


@families
def test_seeds_and_tasks_differ(family):
    draws = [tuple(family.inputs(20, seed)) for seed in range(10)]
    assert len(set(draws)) == 10
    answers = {task: tuple(y for _, y in family.sample(task, 20, 0)) for task in family.tasks}
    assert len(set(answers.values())) == 7
    assert {x for x, _ in family.sample("Null", 20, 0)} == set(draws[0])


@families
def test_null_is_reproducible_and_differs_between_seeds(family):
    x = family.inputs(1, 0)[0]
    answers = [family.answer("Null", x, seed) for seed in range(40)]
    assert answers == [family.answer("Null", x, seed) for seed in range(40)]
    assert len(set(answers)) > 5


@large_families
def test_parts_share_no_input_whatever_the_seeds(family):
    drawn = {part: {x for seed in range(5) for x in family.inputs(60, seed, part)} for part in PARTS}
    assert len(set.union(*drawn.values())) == sum(map(len, drawn.values()))
    assert all(len(inputs) > 60 for inputs in drawn.values())


@families
def test_a_prompt_ends_where_the_answer_begins(family):
    task = family.tasks[0]
    demos = tuple(family.sample(task, 2, 0, "demonstrations"))
    [(x, y)] = family.sample(task, 1, 0)
    text = render(family.template, demos, x)
    assert text[-1] not in " \n"
    assert completion(family.template, y) == f" {y}"
    assert render(family.template, (*demos, (x, y)), "") == f"{text} {y}\n" + render(family.template, (), "")


@families
def test_what_is_not_there_is_refused_in_one_line(family):
    refusals = [
        (lambda: family.sample("Nul", 3, 0), f"unknown task 'Nul' of the family '{family.name}': choose one of "),
        (lambda: family.answer("", "x"), "unknown task ''"),
        (lambda: family.describe("Article"), "unknown task 'Article'"),
        (
            lambda: family.inputs(3, 0, "dev"),
            "unknown part 'dev': choose one of train, demonstrations, selection, test",
        ),
        (lambda: family.answer(family.tasks[0], "ten one"), "'ten one' "),
    ]
    for refused, message in refusals:
        with pytest.raises(ValueError, match=message) as error:
            refused()
        assert "\n" not in str(error.value)


@given(digits=st.integers(1, 8), seed=seeds, operator=st.sampled_from(sorted(TRUTH)), data=st.data())
@settings(max_examples=60)
def test_answers_follow_the_truth_table_and_pythons_operators(digits, seed, operator, data):
    a, b = (data.draw(st.integers(0, 2**digits - 1)) for _ in range(2))
    x = f"{a:0{digits}b} {b:0{digits}b}"
    family = bitwise_arithmetic(digits)
    y = family.answer(operator, x, seed)
    assert y == "".join(TRUTH[operator][int(p + q, base=2)] for p, q in zip(*x.split(), strict=True))
    mask = 2**digits - 1
    number = {"AND": a & b, "OR": a | b, "XOR": a ^ b, "NAND": mask - (a & b), "NOR": mask - (a | b)}
    assert int(y, base=2) == number.get(operator, mask - (a ^ b))
    negated = {"AND": "NAND", "OR": "NOR", "XOR": "XNOR"}.get(operator)
    if negated:
        assert family.answer(negated, x) == y.translate(str.maketrans("01", "10"))


def test_inputs_and_answers_are_of_the_length_asked_for():
    assert bitwise_arithmetic().answer("AND", "10110 01101") == "00100"
    for digits in (1, 3, 8):
        for x, y in bitwise_arithmetic(digits).sample("Null", 1 if digits == 1 else 5, 0, "train"):
            assert [len(number) for number in (*x.split(" "), y)] == [digits] * 3
            assert set(x + y) <= {"0", "1", " "}


@pytest.mark.parametrize("digits", [1, 3, 5, 6])
def test_the_parts_divide_all_pairs_and_each_says_how_many_it_has(digits):
    family, seen = bitwise_arithmetic(digits), []
    for part in PARTS:
        n = everything(family, part)
        inputs = family.inputs(n, seed=3, part=part)
        assert sorted(inputs) == sorted(family.inputs(n, seed=4, part=part))
        seen += inputs
    assert len(set(seen)) == len(seen) == 4**digits


def test_two_numbers_stay_in_one_part_whatever_their_order():
    part_of = {x: part for part in PARTS for x in BITWISE.inputs(70, 0, part)}
    swapped = {x: " ".join(reversed(x.split())) for x in part_of}
    pairs = [(part_of[x], part_of[other]) for x, other in swapped.items() if other in part_of and other != x]
    assert len(pairs) > 20
    assert all(part == other for part, other in pairs)


@pytest.mark.parametrize("digits", [-1, 0, 9, 16])
def test_a_length_that_is_out_of_range_is_refused(digits):
    with pytest.raises(ValueError, match=f"binary numbers have 1 to 8 digits here, not {digits}$"):
        bitwise_arithmetic(digits)


@pytest.mark.parametrize("x", ["1 2", "10110", "1011 0110", "10110 01101 00000", "10110  01101", "1011a 01101", ""])
def test_what_is_no_pair_of_numbers_is_refused(x):
    with pytest.raises(ValueError, match="is not two binary numbers of 5 digits"):
        BITWISE.answer("OR", x)


UPOS = {"Noun": "NOUN", "Adjective": "ADJ", "Verb": "VERB", "Adverb": "ADV", "Preposition": "ADP", "Pronoun": "PRON"}
COMPLETE = "She/PRON often/ADV sees/VERB the/DET old/ADJ cats/NOUN of/ADP Rome/PROPN ./PUNCT"


def conllu(*sentences: str) -> str:
    """A treebank of sentences written as word/TAG word/TAG, with a contracted word and an empty node in each."""
    blocks = []
    for sentence in sentences:
        pairs = [word.rsplit("/", maxsplit=1) for word in sentence.split(" ")]
        lines = [f"{i}\t{form}\t{form.lower()}\t{tag}" + "\t_" * 6 for i, (form, tag) in enumerate(pairs, start=1)]
        span, empty = "1-2\tShe'ften" + "\t_" * 8, "2.1\tghost\tghost\tNOUN" + "\t_" * 6
        blocks.append("\n".join([f"# text = {sentence}", span, *lines[:2], empty, *lines[2:]]) + "\n")
    return "\n".join(blocks) + "\n"


@pytest.fixture
def treebank(tmp_path):
    """Write a file and take it as the family's treebank."""

    def write(text: str | bytes):
        path = tmp_path / "bank.conllu"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return pos_tagging(conllu=path)

    return write


def complete_sentences(n: int) -> list[str]:
    return [COMPLETE.replace("cats", f"cats{i}") for i in range(n)]


def test_a_treebank_answers_with_its_words_as_they_stand(treebank):
    family = treebank(conllu(*complete_sentences(200)))
    assert family.name == "pos"
    for x in family.inputs(20, 0):
        words = x.split(" ")
        assert words == ["She", "often", "sees", "the", "old", words[5], "of", "Rome", "."]
        assert family.tags(x) == (
            "Pronoun",
            "Adverb",
            "Verb",
            "Other",
            "Adjective",
            "Noun",
            "Preposition",
            *["Other"] * 2,
        )
        answers = [family.answer(task, x) for task in UPOS]
        assert answers == [words[5], "old", "sees", "often", "of", "She"]
        assert all(family.answer("Null", x, seed) in words[:-1] for seed in range(20))
    assert [family.inputs(20, 0)] != [family.inputs(20, 1)]


def test_a_treebanks_parts_hold_each_distinct_sentence_once(treebank):
    short = "Go/VERB home/ADV"
    long = COMPLETE + " and/CCONJ" * 32
    spaced = COMPLETE.replace("Rome", "New\xa0York").replace("cats", "ten cats".replace(" ", "\xa0"))
    wanted = complete_sentences(100)
    family = treebank(conllu(short, *wanted, long, COMPLETE + " and/CCONJ" * 31, *wanted, spaced))
    drawn = [x for part in PARTS for x in family.inputs(everything(family, part), 0, part)]
    assert sorted(drawn) == sorted(
        " ".join(word.rsplit("/", maxsplit=1)[0] for word in sentence.split(" "))
        for sentence in [*wanted, COMPLETE + " and/CCONJ" * 31, spaced]
    )


def test_a_word_that_holds_a_space_excludes_its_sentence(treebank):
    text = conllu(*complete_sentences(100)).replace("\tcats7\t", "\t7 000 cats\t")
    family = treebank(text)
    assert sum(everything(family, part) for part in PARTS) == 99


def withheld(sentence: str) -> str:
    return " ".join("_/" + word.rsplit("/", maxsplit=1)[1] for word in sentence.split(" "))


def test_sentences_whose_forms_are_withheld_are_left_out_and_counted(treebank, capsys):
    family = treebank(conllu(*complete_sentences(100), *[withheld(COMPLETE)] * 30))
    assert sum(everything(family, part) for part in PARTS) == 100
    assert "30 of 130 sentences are left out" in capsys.readouterr().err


def test_a_byte_order_mark_is_no_part_of_the_first_line(treebank):
    text = conllu(*complete_sentences(100)).partition("\n")[2]  # begins with a word's line
    assert treebank(b"\xef\xbb\xbf" + text.encode()).inputs(9, 0) == treebank(text).inputs(9, 0)


def everything(family: TaskFamily, part: str) -> int:
    """How many inputs a part has, as the refusal of too many says."""
    with pytest.raises(ValueError, match=rf"the part '{part}' .* has \d+ inputs, too few for 99999$") as error:
        family.inputs(99999, 0, part)
    assert "\n" not in str(error.value)
    return int(str(error.value).split()[-6])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bank.conllu is empty"),
        ("\n\n\n", "bank.conllu is empty"),
        ("# only a comment\n\n", "bank.conllu is empty"),
        ("The cat sat on the mat.\nIt slept.\n", "bank.conllu is no CoNLL-U file"),
        ("word,tag\ncat,NOUN\n", "bank.conllu is no CoNLL-U file"),
        ("1\tcat\n2\tsat\n\n", "bank.conllu is no CoNLL-U file"),
        ("a\tcat\tcat\tNOUN" + "\t_" * 6 + "\n\n", "bank.conllu is no CoNLL-U file"),
        (b"\xff\xfe\x00\x01", "bank.conllu is no CoNLL-U file"),
        (conllu("cat/NOUN sat/VERB", "old/ADJ on/ADP"), r"has no word with the tag ADV \(Adverb\), PRON \(Pronoun\): "),
        (conllu(COMPLETE.replace("ADV", "X")), r"has no word with the tag ADV \(Adverb\): choose a treebank"),
        (
            conllu(*COMPLETE.split(" ")[:2], COMPLETE.split("often/ADV ")[1]),
            "bank.conllu has no sentence of at most 40",
        ),
        (conllu(withheld(COMPLETE)), "forms are withheld in .*bank.conllu"),
        (conllu(COMPLETE + " and/CCONJ" * 32), "bank.conllu has no sentence of at most 40 words that holds all six"),
    ],
)
def test_a_treebank_that_does_not_serve_is_refused_in_one_line(treebank, text, message):
    with pytest.raises(ValueError, match=message) as error:
        treebank(text)
    assert "\n" not in str(error.value)


def test_a_missing_treebank_is_named(tmp_path):
    for path in (tmp_path / "none.conllu", str(tmp_path)):
        with pytest.raises(ValueError, match="is missing: give the path of a treebank"):
            pos_tagging(conllu=path)
