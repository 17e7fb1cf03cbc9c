"""A generator of English sentences whose words carry their part of speech by construction.

RULES is a context-free grammar in short notation. The alternatives of a rule stand between bars; `*3` at the end of one
makes it three times as likely, and `-` is the empty one. In an alternative,

    NP.person.s           is another rule with its parameters, which that rule knows as %1 and %2
    Noun:person.s         is a word of the lexicon: tag, kind (or kind+kind) and form
    the, who/Pronoun      is a word as it stands; its tag is Other unless it says which
    At?                   is there half of the time

Nouns and pronouns have the forms s and p. A verb's form is base or ing, or it is s or p, which the sentence's tense (@)
turns into "carries", "carry" or "carried". `a` becomes "an" where the word that follows asks for it.
"""

import csv
from collections.abc import Iterator
from functools import cache
from random import Random

from task_vectors.paths import project_root

Tagged = tuple[tuple[str, str], ...]  # the words of a sentence in order, each with its tag
TAGS = ("Noun", "Adjective", "Verb", "Adverb", "Preposition", "Pronoun")
OTHER = "Other"
LENGTHS = range(7, 26)  # words in a sentence; a comma counts as one
TENSES = ("past", "present")
COLUMNS = ["word", "tag", "form", "kinds", "article", "source"]
UNFIT = ({"he", "him"}, {"she", "her"}, {"they", "them"}, {"nobody", "never"})  # never in one sentence
DEFINITE = {"the", "this", "that", "these", "those"}  # what "only" and "left" want before them
FORMS = {
    "Noun": {"s": "singular", "p": "plural"},
    "Pronoun": {"s": "singular", "p": "plural"},
    "Verb": {"s past": "past", "p past": "past", "s present": "third", "p present": "base"},
}
# Nouns of these kinds take adjectives that their neighbors in the larger kind do not: a lake is shallow, a hill steep.
SMALLER_KINDS = {
    "building": ("room",),
    "event": ("regular", "contest"),
    "thing": ("blade", "cloth"),
    "way": ("water", "slope", "side", "lane"),
}

RULES = {
    # The weights spread the first word of each tag over the places, so that a place tells little about the tag.
    "Sentence": """Clause *20 | Adverb:sent Clause *10 | Adverb:manner Action *2 | Setting ,? Clause *2
        | Clause Link Clause *9 | Since Clause , Clause *6 | Mood , Human *4 | Act.ing , Human *4
        | Adverb:manner Act.ing , Human | to Act.base , Human | Order *14 | Setting ,? Order *4 | Order Since Clause
        | Inverted""",
    # Clauses
    "Clause": "Human *7 | Beast | Object *2",
    "Human": "Person.s Does.s | Person.p Does.p",
    "Action": "Person.s Act.s | Person.p Act.p",
    "Beast": "NP.animal.s Roams.s | NP.animal.p Roams.p",
    "Object": "Looks.thing *2 | Looks.container | Looks.building",
    "Looks": """NP.%1.s Verb:look.s Quality.%1 | NP.%1.p Verb:look.p Quality.%1
        | Pronoun:neuter.s Verb:look.s Quality.%1 | NP.%1.s Known.%1 Verb:look.s Quality.%1
        | NP.%1.p Known.%1 Verb:look.p Quality.%1""",
    "Order": "Command *2 | Command and Act.base",
    "Command": """Act.base *3 | Adverb:manner Act.base | Act.base Adverb:manner | never/Adverb Act.base
        | always/Adverb Act.base""",
    "Inverted": """At Verb:rest.s a N.person.s Who.s | At Verb:rest.p some N.person.p Who.p
        | At Verb:rest.p the N.person.p Who.p""",
    "Link": "and *3 | but | Since *3",
    "Since": "because *3 | although | while | though | unless | if",
    "Setting": "When *3 | At *2 | Preposition:with Objects.thing | Preposition:contrast NP.person.s",
    "Mood": """Adjective:mood and Adjective:mood | Very Adjective:mood+gradable
        | Adjective:mood Preposition:event the N.event.s""",
    # Noun phrases: %1 is a kind of noun, %2 (or the only parameter of one about persons) is s or p
    "Person": "Pronoun:subject.%1 *4 | NP.person.%1 *4 | NP.person.%1 Who.%1 | NP.person.%1 Beside",
    "Who": "who/Pronoun Does.%1 *2 | Known.person",
    "Known": "that/Pronoun Sees.%1 | which/Pronoun Sees.%1",
    "Known.person": "that/Pronoun Sees.person | whom/Pronoun Sees.person",
    "Sees": "Witness.s Verb:%1.s | Witness.p Verb:%1.p",
    "Witness": "Pronoun:subject.%1 *2 | the Noun:person.%1",
    "Beside": "At *2 | Preposition:with Objects.thing | Preposition:from Objects.building",
    "NP": "Det.%2 N.%1.%2",
    "Objects": "NP.%1.s *2 | NP.%1.p",
    "N": "Noun:%1.%2 *5 | Adjective:%1 Noun:%1.%2 *5 | Very Adjective:%1+gradable Noun:%1.%2",
    "Det.s": "the *9 | a *9 | this | that | every | another",
    "Det.p": "the *6 | some *2 | these | those | two | three | - *6",
    "Very": "Adverb:degree",
    "Whom": "Pronoun:object *3 | Objects.person *2",
    "What": """Pronoun:item *2 | Objects.thing *4 | Objects.container | Objects.furniture
        | NP.thing.s Known.thing""",
    "Gift": "the N.thing.s | a N.thing.s | some N.thing.p | the N.thing.p",
    "Food": "the Dish | some Dish | Dish",
    "Dish": "Noun:food | Adjective:food Noun:food *2",
    # Verb phrases: %1 is the form of the verb
    "Does": "VP.%1 *4 | Modal.@ VP.base",
    "Modal.past": "could | would | might",
    "Modal.present": "can | will | must | should | may",
    "VP": """Act.%1 *2 | Adverb:freq Act.%1 | Adverb:manner Act.%1 | Act.%1 Adverb:manner *2 | Is.%1 *3
        | Adverb:freq Is.%1""",
    "Is": """Verb:thing_state.%1 What | Verb:person_state.%1 Whom | Verb:event_state.%1 Objects.event
        | Verb:idea_state.%1 Objects.idea | Verb:food_state.%1 Food | Verb:link.%1 Feeling *2
        | Verb:seem.%1 Quality.person | Verb:want.%1 to Act.base *2 | Verb:keep.%1 Act.ing | Verb:say.%1 that Clause
        | Verb:say.%1 Pronoun:subject.s Does.s""",
    "Act": """Verb:motion.%1 Route *3 | Verb:float.%1 Adrift | Verb:act.%1 How | Verb:skill.%1 Adverb:skill
        | Verb:level.%1 Adverb:level | Verb:thing.%1 What Where *3 | Verb:container.%1 Objects.container Where
        | Verb:building.%1 NP.building.s | Verb:person.%1 Whom There *3 | Verb:event.%1 Objects.event
        | Verb:idea.%1 Objects.idea | Verb:give.%1 Whom Gift | Verb:food.%1 Food Where
        | Verb:motion.%1 Preposition:like NP.animal.s | Verb:at.%1 at/Preposition Whom | Verb:to.%1 to/Preposition Whom
        | Verb:for.%1 for/Preposition What | Verb:with.%1 with/Preposition Whom
        | Verb:about.%1 Preposition:about Objects.idea""",
    "Roams": """Verb:beast.%1 Adverb:lively | Adverb:freq Verb:beast.%1 At | Verb:beast.%1 At | Verb:motion.%1 Route
        | Modal.@ Verb:beast.base At""",
    "Feeling": "Adjective:mood *2 | Very Adjective:mood+gradable | Adjective:mood and Adjective:mood",
    "Quality": "Adjective:%1+gradable | Very Adjective:%1+gradable",
    "Quality.person": """Adjective:state | Adjective:person+gradable *2 | Very Adjective:person+gradable
        | Adverb:predegree Adjective:person+gradable""",
    # Places and times
    "Route": "Adverb:dir *3 | Going *3 | Adverb:onward Going",
    "Going": "Preposition:to_building Objects.building | Preposition:to_way Objects.way | Preposition:along NP.route.s",
    "Adrift": "Adverb:adrift | Preposition:to_water NP.water.s",
    "How": "- | Adverb:flat *2 | Adverb:place | At *2",
    "Where": "- *3 | At | Adverb:place | Preposition:container NP.container.s",
    "There": "- *3 | In | Adverb:place",
    "In": "Preposition:at_building NP.building.s *2 | Preposition:at_way NP.way.s",
    "At": "In *3 | Preposition:furniture NP.furniture.s",
    "When": "Preposition:period One N.period.s | Preposition:event Objects.event",
    "One": "the *2 | a | that | another",
}
RULES |= {
    f"N.{kind}": " | ".join([RULES["N"], *(f"Adjective:{small} Noun:{small}.%2" for small in smaller)])
    for kind, smaller in SMALLER_KINDS.items()
}


@cache
def lexicon() -> list[dict[str, str]]:
    """The rows of data/tasks/families/pos_lexicon.csv; kinds are separated by spaces."""
    path = project_root() / "data" / "tasks" / "families" / "pos_lexicon.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: restore it from the repository")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{path} has the columns {reader.fieldnames}; they must be {COLUMNS}")
        return list(reader)


def sentences(rng: Random) -> Iterator[Tagged]:
    """Endless sentences that hold all of TAGS; the same for the same state of the generator."""
    while True:
        draft = _expand("Sentence", TENSES[rng.random() < 0.5], rng)
        # Most drafts lack a tag or are too short: they are thrown away first.
        if (
            len(draft) in LENGTHS
            and {tag for _, tag in draft} >= set(TAGS)
            and _reads_well(sentence := _articled(draft))
        ):
            yield sentence


def _expand(symbol: str, tense: str, rng: Random) -> list[tuple[str, str]]:
    options = _options(symbol, tense)
    # Of all its methods, only random() is promised to give the same numbers in every version of Python.
    chosen = options[int(rng.random() * len(options))]
    return [chosen] if isinstance(chosen, tuple) else [word for part in chosen for word in _expand(part, tense, rng)]


@cache
def _options(symbol: str, tense: str) -> list[tuple[str, str] | list[str]]:
    """What a symbol may become, equally likely: a word with its tag, or a list of symbols."""
    if symbol.endswith("?"):
        return [[], [symbol[:-1]]]
    if ":" in symbol:
        return [(word, symbol.partition(":")[0]) for word in _words(symbol, tense)]
    if not symbol[0].isupper():
        word, _, tag = symbol.partition("/")
        return [(word, tag or OTHER)]
    name, *parameters = symbol.split(".")
    names = (".".join([name, *parameters[:n]]) for n in range(len(parameters), -1, -1))
    rule = next(RULES[longest] for longest in names if longest in RULES).replace("@", tense)
    for i, value in enumerate(parameters, start=1):
        rule = rule.replace(f"%{i}", value)
    options = []
    for alternative in rule.split("|"):
        parts = alternative.split()
        weight = int(parts.pop()[1:]) if parts[-1].startswith("*") else 1
        options += [[] if parts == ["-"] else parts] * weight
    return options


@cache
def _words(symbol: str, tense: str = "") -> list[str]:
    """The words of the lexicon that a symbol such as Noun:person.s stands for."""
    tag, _, rest = symbol.partition(":")
    kinds, _, form = rest.partition(".")
    forms = FORMS.get(tag, {})
    form = forms.get(f"{form} {tense}") or forms.get(form) or form
    wanted = set(kinds.split("+"))
    found = [
        row["word"]
        for row in lexicon()
        if row["tag"] == tag and wanted <= set(row["kinds"].split()) and form in ("", row["form"])
    ]
    if not found:
        raise ValueError(f"the lexicon has no word for {symbol}")
    return found


@cache
def _articles() -> dict[tuple[str, str], str]:
    return {(row["word"], row["tag"]): row["article"] for row in lexicon() if row["article"]}


def _articled(sentence: list[tuple[str, str]]) -> Tagged:
    """The sentence with each `a` made "an" or, before an adjective such as "only", "the"."""
    following = [*sentence[1:], None]
    return tuple(
        (_articles()[after], tag) if word == "a" else (word, tag)
        for (word, tag), after in zip(sentence, following, strict=True)
    )


def _reads_well(sentence: Tagged) -> bool:
    """No content word twice, one manner and one time at most, nobody who helps himself, "the" where it is wanted."""
    words = [word for word, _ in sentence]
    content = [word for word, tag in sentence if tag in ("Noun", "Adjective", "Verb", "Adverb")]
    adverbs = {word for word, tag in sentence if tag == "Adverb"}
    neighbors = list(zip(sentence, sentence[1:], strict=False))
    return (
        len(set(content)) == len(content)
        and len(adverbs & set(_words("Adverb:manner"))) <= 1
        and len(adverbs & {*_words("Adverb:freq"), *_words("Adverb:sent"), "never", "always"}) <= 1
        and all(before[0] != after[0] for before, after in neighbors)
        and not any(_articles().get(after) == "the" and before[0] not in DEFINITE for before, after in neighbors)
        and sum(words.count(word) for word in ("I", "me", "we", "us")) <= 1
        and words.count("you") <= 1
        and not any(pair <= set(words) for pair in UNFIT)
    )
