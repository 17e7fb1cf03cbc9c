"""The sentences of the grammar and the written ones: tags, English, and that a word's place hardly tells its tag."""

from collections import Counter, defaultdict
from functools import cache

import conllu
import pytest
from lemminflect import getLemma

from task_vectors.paths import project_root
from task_vectors.prompts.families import family_prompts
from task_vectors.tasks.families import grammar
from task_vectors.tasks.families.family import PARTS
from task_vectors.tasks.families.grammar import OTHER, TAGS, TENSES, Tagged, lexicon
from task_vectors.tasks.families.pos import UPOS, pos_tagging, read_treebank, written_sentences

POS, WRITTEN = pos_tagging(), written_sentences()
TREEBANK = project_root() / "data" / "tasks" / "families" / "written.conllu"
AN_BEFORE_A_CONSONANT, A_BEFORE_A_VOWEL = (
    {"honest", "heir"},
    {"uniform", "unique", "unit", "useful", "useless", "usual"},
)
SINGULAR, PLURAL = {"he", "she"}, {"I", "you", "we", "they"}
LEMMA_EXCEPTIONS = {"oxen": "lemminflect takes it for a lemma"}
MODALS = {"can", "could", "may", "might", "must", "should", "will", "would"}
OTHER_UPOS = {"AUX", "CCONJ", "DET", "INTJ", "NUM", "PART", "PUNCT", "SCONJ"}


@pytest.fixture(scope="module")
def train() -> list[str]:
    return POS.inputs(4000, seed=0, part="train")


@pytest.fixture(scope="module")
def test() -> list[str]:
    return POS.inputs(2000, seed=0, part="test")


def places(x: str) -> dict[str, int]:
    """Where the first word of each tag stands."""
    return {tag: POS.tags(x).index(tag) for tag in TAGS}


def test_each_sentence_holds_all_tags_and_answers_with_the_first_word_of_the_tag(test):
    for x in test:
        words, tags = x.split(" "), POS.tags(x)
        assert len(words) == len(tags)
        assert set(tags) >= set(TAGS)
        assert set(tags) <= {*TAGS, OTHER}
        for tag in TAGS:
            assert POS.answer(tag, x) == [word for word, its in zip(words, tags, strict=True) if its == tag][0]
        assert POS.answer("Null", x) in set(words) - {","}


def test_gold_tags_are_those_of_the_lexicon_and_function_words_have_none(test):
    known = {(row["word"], row["tag"]) for row in lexicon()}
    pairs = {pair for x in test for pair in zip(x.split(" "), POS.tags(x), strict=True)}
    assert {word for word, tag in pairs - known if tag != OTHER} <= {
        *("never", "always", "at", "for", "to", "with"),
        *("that", "which", "who", "whom"),
    }
    function_words = {word for word, tag in pairs if tag == OTHER}
    assert 30 <= len(function_words) <= 50
    # "to the barn" holds a preposition, "to help" does not.
    assert {word for word, _ in known if word in function_words} == {"to"}


def test_sentences_are_plain_lower_case_words(train):
    words = {word for x in train for word in x.split(" ")} - {",", "I"}
    assert all(word.isalpha() and word.islower() for word in words)
    assert not [x for x in train if x.startswith(",") or x.endswith(",") or ", ," in x]


def test_lengths_and_shapes_vary(train):
    lengths = Counter(len(x.split(" ")) for x in train)
    assert set(lengths) <= set(range(7, 26))
    assert len([n for n in lengths.values() if n >= 40]) >= 12
    # A shape is the order of the tags, with a run of one tag taken as one.
    shapes = {
        tuple(t for t, before in zip(tags, (None, *tags), strict=False) if t != before) for tags in map(POS.tags, train)
    }
    assert len(shapes) > 500
    assert len({POS.tags(x)[:2] for x in train}) >= 15


def test_enough_word_forms_and_enough_words_in_two_classes(train, test):
    tags = defaultdict(set)
    for x in train + test:
        for word, tag in zip(x.split(" "), POS.tags(x), strict=True):
            if tag != OTHER:
                tags[word].add(tag)
    assert len(tags) >= 1000
    assert len([word for word, found in tags.items() if len(found) > 1]) >= 80
    assert tags["run"] == {"Noun", "Verb"}
    assert tags["past"] == {"Adjective", "Adverb", "Preposition"}
    assert tags["fast"] == {"Noun", "Adjective", "Adverb"}
    assert tags["like"] == {"Verb", "Preposition"}


def test_place_and_length_hardly_tell_the_tag(train, test):
    """A guess from the place of an answer and the length of its sentence; a constant guess is right in 1/6."""

    def answers(sentences):
        return [((len(x.split(" ")), place), tag) for x in sentences for tag, place in places(x).items()]

    table = defaultdict(Counter)
    for place, tag in answers(train):
        table[place][tag] += 1
    right = [table[place].most_common(1)[0][0] == tag if table[place] else False for place, tag in answers(test)]
    assert sum(right) / len(right) < 0.35


@pytest.mark.parametrize("tag", TAGS)
def test_the_commonest_place_of_a_tag_is_mostly_wrong(train, test, tag):
    place = Counter(places(x)[tag] for x in train).most_common(1)[0][0]
    assert sum(places(x)[tag] == place for x in test) / len(test) < 0.25


def test_articles_fit_the_word_that_follows(train):
    followers = {(word, after) for x in train for word, after in zip(x.split(), x.split()[1:], strict=False)}
    for article, word in {pair for pair in followers if pair[0] in ("a", "an")}:
        sounds_like_a_vowel = (word[0] in "aeiou" and word not in A_BEFORE_A_VOWEL) or word in AN_BEFORE_A_CONSONANT
        assert article == ("an" if sounds_like_a_vowel else "a"), word
    assert {("a", "useful"), ("an", "honest")} <= followers
    assert not [word for article, word in followers if article in ("a", "an", "every") and word in ("only", "left")]


def test_verbs_agree_with_pronouns_and_modals(train):
    forms = defaultdict(set)
    for row in lexicon():
        if row["tag"] == "Verb":
            forms[row["word"]].add(row["form"])
    seen = Counter()
    for x in train:
        words, tags = x.split(" "), POS.tags(x)
        for before, word, tag in zip(words, words[1:], tags[1:], strict=False):
            if tag == "Verb" and before in SINGULAR | PLURAL | MODALS:
                fitting = {"base"} if before in MODALS else {"past", "third" if before in SINGULAR else "base"}
                assert forms[word] & fitting, x
                seen[before] += 1
    assert all(seen[word] > 10 for word in SINGULAR | PLURAL | MODALS)


def test_an_input_has_the_same_tags_whenever_it_is_drawn():
    first = {x: POS.tags(x) for x in POS.inputs(50, 7)}
    assert {x: pos_tagging().tags(x) for x in pos_tagging().inputs(50, 7)} == first


def test_the_lexicon_is_well_formed_and_its_inflections_agree_with_lemminflect():
    rows = lexicon()
    assert len({(row["word"], row["tag"], row["form"]) for row in rows}) == len(rows)
    assert all(row["word"] and row["kinds"] and row["source"] and row["tag"] in TAGS for row in rows)
    assert all(" ".join(cell.split()) == cell for row in rows for cell in row.values())
    words = {form: {row["word"] for row in rows if row["form"] == form} for form in ("singular", "base")}
    for row in rows:
        if row["source"].endswith("lemminflect") and row["word"] not in LEMMA_EXCEPTIONS:
            lemmas = getLemma(row["word"], row["tag"].upper())
            assert set(lemmas) & words["singular" if row["tag"] == "Noun" else "base"], row["word"]


@pytest.mark.parametrize(("text", "error"), [(None, FileNotFoundError), ("word,tag\n", ValueError)])
def test_a_broken_lexicon_is_named(tmp_path, monkeypatch, text, error):
    monkeypatch.setattr(grammar, "project_root", lambda: tmp_path)
    path = tmp_path / "data" / "tasks" / "families" / "pos_lexicon.csv"
    path.parent.mkdir(parents=True)
    if text:
        path.write_text(text)
    with pytest.raises(error, match="pos_lexicon.csv"):
        lexicon.__wrapped__()


@pytest.fixture(scope="module")
def written() -> list[Tagged]:
    return read_treebank(TREEBANK)


def test_the_written_treebank_is_well_formed_and_wastes_no_sentence(written):
    bank = conllu.parse(TREEBANK.read_text(encoding="utf-8"))
    assert len(written) == len(bank) >= 240
    assert len({sentence.metadata["sent_id"] for sentence in bank}) == len(bank)
    for sentence in bank:
        forms, tags = [token["form"] for token in sentence], [token["upos"] for token in sentence]
        assert sentence.metadata["text"] == " ".join(forms)
        assert [token["id"] for token in sentence] == list(range(1, len(forms) + 1))
        assert set(UPOS) <= set(tags) <= set(UPOS) | OTHER_UPOS
        assert len(forms) <= 24
        assert len([form for form in forms if form.isalpha()]) >= 8
        for form, tag in zip(forms, tags, strict=True):
            assert form.isalpha() if tag != "PUNCT" else len(form) == 1 and not form.isalnum()


def test_written_shapes_are_many_and_about_equally_frequent():
    bank = conllu.parse(TREEBANK.read_text(encoding="utf-8"))
    shapes = Counter(sentence.metadata["sent_id"].rpartition("-")[0] for sentence in bank)
    assert len(shapes) >= 20
    assert max(shapes.values()) <= 1.5 * min(shapes.values())


def could_be_of_the_grammar(sentence: Tagged) -> bool:
    """Whether RULES make these words in this order, where a word of the lexicon may be any other with its tag."""
    words = [(word.lower() if word != "I" else word, tag) for word, tag in sentence]
    words = words[:-1] if words[-1][0] in ".?!" else words

    @cache
    def ends(symbol: str, start: int, tense: str) -> frozenset[int]:
        if ":" in symbol or not (symbol[0].isupper() or symbol.endswith("?")):
            literal, tag = symbol.partition("/")[0], symbol.partition(":")[0]
            fits = {"an", "the", "a"} if literal == "a" else {literal}
            fit = start < len(words) and (words[start][1] == tag if ":" in symbol else words[start][0] in fits)
            return frozenset([start + 1] if fit else [])
        found = set()
        for option in set(map(tuple, grammar._options(symbol, tense))):
            reached = {start}
            for part in option:
                reached = {end for place in reached for end in ends(part, place, tense)}
            found |= reached
        return frozenset(found)

    return any(len(words) in ends("Sentence", 0, tense) for tense in TENSES)


def test_no_written_sentence_is_of_a_shape_that_the_grammar_makes(written, test):
    assert all(could_be_of_the_grammar(tuple(zip(x.split(" "), POS.tags(x), strict=True))) for x in test[:300])
    assert [sentence for sentence in written if could_be_of_the_grammar(sentence)] == []
    openings = {POS.tags(x)[:5] for x in test}
    new = [sentence for sentence in written if tuple(tag for _, tag in sentence[:5]) not in openings]
    assert len(new) > len(written) / 2


def test_the_parts_of_the_written_sentences_suffice(written):
    sizes = Counter(WRITTEN._part(" ".join(word for word, _ in sentence)) for sentence in written)
    assert sizes["test"] >= 60
    assert sizes["demonstrations"] >= 60
    assert sizes["selection"] >= 12
    drawn = [x for part in PARTS for x in WRITTEN.inputs(sizes[part], 0, part)]
    assert len(set(drawn)) == len(drawn) == len(written)
    for n_demos in (4, 10):
        prompts = family_prompts(WRITTEN, n_demos, 20, 0)
        assert len(prompts.texts) == 7 * 20
        assert all(len(demos) == n_demos for demos in prompts.demos)


@pytest.mark.parametrize("tag", TAGS)
def test_the_first_word_of_a_tag_stands_at_many_places_in_the_written_sentences(written, tag):
    firsts = Counter([its for _, its in sentence].index(tag) for sentence in written)
    assert firsts.most_common(1)[0][1] / len(written) < 0.25
    assert len([n for n in firsts.values() if n >= 5]) >= 8


def test_written_words_vary_and_what_linguists_dispute_is_no_answer(written):
    tags = defaultdict(set)
    for sentence in written:
        for word, tag in sentence:
            tags[word.lower()].add(tag)
    assert len(tags) >= 1000
    assert len([word for word, found in tags.items() if len(found) > 1]) >= 25
    # To some, a possessive is no pronoun, nor is the "there" of "there stood", and "than" is no preposition.
    disputed = {("Pronoun", word) for word in ("my", "your", "his", "its", "our", "their", "there")}
    answers = {
        (tag, next(word for word, its in sentence if its == tag).lower()) for sentence in written for tag in TAGS
    }
    assert not answers & (disputed | {("Preposition", "than")})


def test_the_written_family_is_one_for_all_and_its_name_holds_no_path():
    assert written_sentences() is WRITTEN
    assert repr(WRITTEN) == "pos_tagging(written)"
