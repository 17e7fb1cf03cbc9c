"""What values a parameter may have: a rule in a few fixed words, at the end of its help."""

import re

NUMBER = r"-?\d+(?:\.\d+)?"
RULE = re.compile(
    r"(?:^|[,;] )(?P<rule>(?P<each>each )?(?:"
    rf"at least (?P<least>{NUMBER})|above (?P<above>{NUMBER})|from (?P<low>{NUMBER}) to (?P<high>{NUMBER})|"
    rf"a multiple of (?P<step>\d+)|one of (?P<names>[\w.-]+(?:, [\w.-]+)*)|(?P<some>not empty)"
    r")(?P<optional>, if any)?)$"
)


def find_rule(help_text: str) -> str | None:
    """The rule that a parameter's help ends with, after a comma or semicolon, if it does.

    "at least 1", "above 0", "from 0 to 1" (both included), "a multiple of 4" (above 0), "one of a, b, c" or
    "not empty"; of a list, "each at least 1" and its like hold for every element, of which there must be some.
    ", if any" behind it allows an empty text or list.
    """
    match = RULE.search(help_text)
    return match["rule"] if match else None


def follows_rule(value: object, rule: str) -> bool:
    """Whether a value is one that the rule allows."""
    match = RULE.search(rule)
    if match["optional"] and value in ("", []):
        return True
    if match["each"]:
        return isinstance(value, list) and bool(value) and all(_is_within(item, match) for item in value)
    return _is_within(value, match)


def _is_within(value: object, rule: re.Match) -> bool:
    if rule["names"]:
        return value in rule["names"].split(", ")
    if rule["some"]:
        return isinstance(value, str | list) and bool(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if rule["above"]:
        return value > float(rule["above"])
    if rule["step"]:
        return value > 0 and value % int(rule["step"]) == 0
    if rule["least"]:
        return value >= float(rule["least"])
    return float(rule["low"]) <= value <= float(rule["high"])
