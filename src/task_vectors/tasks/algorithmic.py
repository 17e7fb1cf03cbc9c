"""Tasks that follow a rule: letters, lists of words and numerals, generated the same way every time."""

from collections.abc import Callable
from string import ascii_lowercase, ascii_uppercase

from task_vectors.tasks.task import Task

LIST_WORDS = (
    "apple",
    "river",
    "stone",
    "cloud",
    "table",
    "horse",
    "paper",
    "light",
    "music",
    "water",
    "chair",
    "green",
    "house",
    "tiger",
    "bread",
    "smile",
    "train",
    "winter",
    "garden",
    "pencil",
    "silver",
    "doctor",
    "orange",
    "window",
    "coffee",
    "summer",
    "market",
    "bridge",
    "yellow",
    "rabbit",
    "forest",
    "button",
    "island",
    "camera",
    "butter",
    "planet",
    "pocket",
    "engine",
    "flower",
    "castle",
    "ticket",
    "dragon",
    "basket",
    "guitar",
    "mirror",
    "copper",
    "hammer",
    "kitten",
    "ladder",
    "monkey",
    "needle",
    "office",
    "pepper",
    "rocket",
    "saddle",
    "temple",
    "tunnel",
    "valley",
    "wagon",
    "zebra",
)

ONES = (
    *("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty")
NUMBERS = range(1, 61)
IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def to_upper() -> Task:
    """a → A."""
    return Task("to_upper", "algorithmic", tuple(zip(ascii_lowercase, ascii_uppercase, strict=True)))


def next_letter() -> Task:
    """a → b, up to y → z; z has no next letter."""
    return Task("next_letter", "algorithmic", tuple(zip(ascii_lowercase, ascii_lowercase[1:], strict=False)))


def list_first() -> Task:
    """apple, kitten, coffee → apple."""
    return Task("list_first", "algorithmic", tuple((", ".join(words), words[0]) for words in word_lists()))


def list_last() -> Task:
    """apple, kitten, coffee → coffee."""
    return Task("list_last", "algorithmic", tuple((", ".join(words), words[-1]) for words in word_lists()))


def word_lists() -> list[tuple[str, str, str]]:
    """One list for each word of LIST_WORDS; each word stands exactly once in each of the three places."""
    n = len(LIST_WORDS)
    # Two fixed strides keep the places balanced, so no word is likelier first than last.
    return [(LIST_WORDS[i], LIST_WORDS[(i + 17) % n], LIST_WORDS[(i + 41) % n]) for i in range(n)]


def copy() -> Task:
    """a → a and A → A: the control that Proposition 4 of Dong et al. (2026) allows."""
    return Task("copy", "control", tuple((letter, letter) for letter in ascii_lowercase + ascii_uppercase))


def number_to_digits() -> Task:
    """forty-two → 42, from one to sixty."""
    return _of_numbers("number_to_digits", str)


def number_to_ordinal() -> Task:
    """forty-two → forty-second."""
    return _of_numbers("number_to_ordinal", ordinal)


def number_to_roman() -> Task:
    """forty-two → XLII."""
    return _of_numbers("number_to_roman", roman)


def spelled(n: int) -> str:
    """`forty-two`; 0 < n < 70."""
    return ONES[n] if n < len(ONES) else "-".join(filter(None, (TENS[n // 10], ONES[n % 10])))


def ordinal(n: int) -> str:
    """`forty-second`; 0 < n < 70."""
    head, hyphen, last = spelled(n).rpartition("-")
    regular = last.removesuffix("y") + ("ieth" if last.endswith("y") else "th")
    return head + hyphen + IRREGULAR_ORDINALS.get(last, regular)


def roman(n: int) -> str:
    """`XLII`; 0 < n < 70."""
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    tens = ("", "X", "XX", "XXX", "XL", "L", "LX")
    return tens[n // 10] + ones[n % 10]


def _of_numbers(name: str, written: Callable[[int], str]) -> Task:
    return Task(name, "extension", tuple((spelled(n), written(n)) for n in NUMBERS))
