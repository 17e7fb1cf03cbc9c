"""Part-of-speech tagging: which word of a sentence is its first noun, adjective, …

The sentences come from the grammar of this package, from a small treebank of other shapes, or from one that the user
owns. Tags are those of Universal Dependencies: "she" and the "who" of a relative clause are pronouns, "will" is an
auxiliary and not a verb, and the "to" of "to carry" is no preposition.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from random import Random

import conllu as conllu_format

from task_vectors.paths import project_root
from task_vectors.tasks.families import grammar
from task_vectors.tasks.families.family import NULL, TaskFamily, words
from task_vectors.tasks.families.grammar import OTHER, TAGS, Tagged

UPOS = dict(zip(("NOUN", "ADJ", "VERB", "ADV", "ADP", "PRON"), TAGS, strict=True))
COLUMNS = conllu_format.parser.DEFAULT_FIELDS  # the ten of a CoNLL-U file
MOST_WORDS = 40  # in a sentence of a treebank, a punctuation mark counted as one
WITHHELD = "_"  # in place of each form, where a treebank's license keeps its text back


class PosTagging(TaskFamily):
    """Inputs are sentences that hold all six tags, their words and punctuation marks separated by single spaces."""

    name = "pos"
    template = "Sentence: {x}\nWord: {y}"
    descriptions = {tag: f"The answer is the first {tag.lower()} of the sentence." for tag in TAGS} | {
        NULL: "The answer is a random word of the sentence."
    }

    def __init__(self, sentences: Callable[[Random], Iterable[Tagged]], source: str):
        self.source = source
        self._sentences = sentences
        self._tags: dict[str, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"pos_tagging({self.source})"

    def tags(self, x: str) -> tuple[str, ...]:
        """The tag of each of the `words` of an input, in their order: one of the six, or "Other".

        Raises:
            ValueError: x was not drawn with `inputs` or `sample` of this family.
        """
        if x not in self._tags:
            raise ValueError(f"{x!r} has no known tags: draw it with `inputs` or `sample` of this family first")
        return self._tags[x]

    def _candidates(self, rng: Random) -> Iterator[str]:
        drawn = set()
        for sentence in self._sentences(rng):
            forms, tags = zip(*sentence, strict=True)
            x = " ".join(forms)
            if x not in drawn:
                drawn.add(x)
                self._tags.setdefault(x, tags)
                yield x

    def _solve(self, task: str, x: str) -> str:
        return words(x)[self.tags(x).index(task)]

    def _random_answer(self, x: str, rng: Random) -> str:
        return rng.choices([word for word in words(x) if any(letter.isalnum() for letter in word)])[0]


def pos_tagging(conllu: str | Path | None = None) -> PosTagging:
    """Noun, Adjective, Verb, Adverb, Preposition, Pronoun and Null: the answer is the first word with that tag.

    Han et al. (2025) take sentences of the Penn Treebank. Without a treebank, sentences come from a grammar that was
    written for this book.

    Args:
        conllu: a treebank in CoNLL-U format with universal tags (UPOS). Its sentences that hold all six tags and have
            at most 40 words are kept; a word that holds a space excludes its sentence, and so do forms that are
            withheld ("_" in place of every word).

    Raises:
        ValueError: the file is missing, is no CoNLL-U file, withholds its forms, lacks one of the six tags, or no
            sentence is left.
    """
    return _from_grammar() if conllu is None else _from_treebank(conllu, source=repr(str(conllu)))


@cache
def written_sentences() -> PosTagging:
    """The same tasks on sentences of shapes that the grammar does not make, written and tagged for this book.

    A model that was trained on the grammar's sentences may know tags only in the shapes that it saw. Here it meets
    questions, quotes, passives, clefts, comparatives and others, about as many of each, in
    data/tasks/families/written.conllu.
    """
    return _from_treebank(project_root() / "data" / "tasks" / "families" / "written.conllu", source="written")


@cache
def _from_grammar() -> PosTagging:
    # One for all, so that an input drawn anywhere in the program has its tags everywhere.
    return PosTagging(grammar.sentences, source="")


def _from_treebank(path: str | Path, source: str) -> PosTagging:
    sentences = read_treebank(path)
    return PosTagging(lambda rng: sorted(sentences, key=lambda _: rng.random()), source)


def read_treebank(path: str | Path) -> list[Tagged]:
    """The distinct sentences of a CoNLL-U file that serve all six tasks; see `pos_tagging`."""
    parsed = _parse(Path(path))
    sentences = [sentence for sentence in parsed if {word for word, _ in sentence} != {WITHHELD}]
    if not sentences:
        raise ValueError(f"forms are withheld in {path}: each of its words is {WITHHELD!r}; get the whole treebank")
    if masked := len(parsed) - len(sentences):
        print(
            f"{path}: {masked} of {len(parsed)} sentences are left out, since their forms are withheld", file=sys.stderr
        )
    seen = {tag for sentence in sentences for _, tag in sentence}
    if missing := [f"{upos} ({tag})" for upos, tag in UPOS.items() if tag not in seen]:
        raise ValueError(f"{path} has no word with the tag {', '.join(missing)}: choose a treebank with all six tags")
    kept = {
        " ".join(word for word, _ in sentence): sentence
        for sentence in reversed(sentences)
        if len(sentence) <= MOST_WORDS
        and {tag for _, tag in sentence} >= set(TAGS)
        and not any(" " in word for word, _ in sentence)
    }
    if not kept:
        raise ValueError(f"{path} has no sentence of at most {MOST_WORDS} words that holds all six tags")
    return list(kept.values())


def _parse(path: Path) -> list[Tagged]:
    if not path.is_file():
        raise ValueError(f"{path} is missing: give the path of a treebank in CoNLL-U format")
    try:
        with path.open(encoding="utf-8-sig") as file:
            sentences = [_words(tokens) for tokens in conllu_format.parse_incr(file)]
    except (conllu_format.exceptions.ParseException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no CoNLL-U file of ten columns separated by tabs: {reason}") from error
    if not any(sentences):
        raise ValueError(f"{path} is empty: give a treebank in CoNLL-U format")
    return sentences


def _words(tokens: conllu_format.TokenList) -> Tagged:
    """The words of a sentence, without the spans of contracted words ("don't" as 2-3) and the empty nodes (8.1)."""
    if short := [len(token) for token in tokens if len(token) < len(COLUMNS)]:
        raise ValueError(f"a line has {short[0]} columns")
    return tuple((token["form"], UPOS.get(token["upos"], OTHER)) for token in tokens if isinstance(token["id"], int))
