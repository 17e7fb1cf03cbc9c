"""What a page finds: each claim with its estimate, under one rule for the whole book.

*holds*: the interval lies on the published side ("smaller" where the mean is below half of the published effect).
*against*: it lies on the other side. *no effect*: it lies inside a stated margin, in the finding's own
units; a margin is what counts as none, so this comes first. *undecided*: anything else, and whatever has
no interval, is at a ceiling or a floor, or below a gate, with that reason.

The page says nothing of the verdicts that its prose was written for: `scoreboard` compares with those.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from task_vectors.measures.statistics import Estimate
from task_vectors.pages.charts import glue
from task_vectors.pages.parameters import find_notebook, is_default, read_parameters

VERDICTS = ("holds", "against", "no effect", "undecided")
LEVEL = 0.95
COLUMNS = ["chapter", "key", "claim", "mean", "low", "high", "p", "published", "source", "rule", "verdict", "reason"]
ROWS = "findings"  # the name under which an executed notebook keeps its rows


@dataclass(frozen=True)
class Rule:
    """What an interval must do for a claim to hold. side: 1 above `null`, -1 below it, 0 within `margin` of it."""

    side: int
    null: float = 0.0
    margin: float | None = None

    def __str__(self) -> str:
        if self.side == 0:
            return f"within {_short(self.margin)} of {self.null:g}"
        words = f"{'above' if self.side > 0 else 'below'} {self.null:g}"
        return words if self.margin is None else f"{words}; within {_short(self.margin)} of it is no effect"


def _short(value: float) -> str:
    """Three digits, and no exponent for a number of steps."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:g}"


def above(null: float = 0.0, margin: float | None = None) -> Rule:
    """The claim is that the value lies above `null`; within `margin` of it, if given, there is no effect."""
    return Rule(1, null, margin)


def below(null: float = 0.0, margin: float | None = None) -> Rule:
    """The claim is that the value lies below `null`; within `margin` of it, if given, there is no effect."""
    return Rule(-1, null, margin)


def within(margin: float, null: float = 0.0) -> Rule:
    """The claim is that there is no difference from `null`: it holds inside the margin, and is refuted outside it."""
    return Rule(0, null, margin)


def verdict(found: Estimate, rule: Rule, published: float | None = None, undecided: str = "") -> tuple[str, str]:
    """One of VERDICTS, and the reason where there is one to give.

    published: the published effect, in the units of `found`. undecided: why nothing can be asked here (a ceiling, a
    floor, a gate that was not passed), if so.

    Raises ValueError where the published effect lies on the other side than the claim.
    """
    if rule.side and published is not None and (published - rule.null) * rule.side < 0:
        raise ValueError(f"the published {published} is not {rule}: a claim lies on the published side")
    if undecided:
        return "undecided", undecided
    if not np.isfinite([found.mean, found.low, found.high]).all():
        return "undecided", "no interval"
    inside = rule.margin is not None and found.low > rule.null - rule.margin and found.high < rule.null + rule.margin
    if rule.side == 0:
        outside = found.low > rule.null + rule.margin or found.high < rule.null - rule.margin
        return ("holds", "") if inside else ("against", "") if outside else ("undecided", "the interval is wider")
    if inside:
        return "no effect", f"within {_short(rule.margin)}"
    if (found.low - rule.null) * rule.side > 0 < (found.high - rule.null) * rule.side:
        small = published is not None and (found.mean - rule.null) * rule.side < abs(published - rule.null) / 2
        return "holds", "smaller than published" if small else ""
    if (found.low - rule.null) * rule.side < 0 > (found.high - rule.null) * rule.side:
        return "against", ""
    return "undecided", f"{rule.null:g} is inside"


def p_value(found: Estimate, rule: Rule) -> float:
    """Two-sided p of what the verdict rests on, from the interval and its Student's t; nan without an interval.

    Against a difference from `null`, or, where the interval lies inside the margin, against one as large as the margin.
    It is that of a t distribution whose 95 % interval this is: exact for Student's, near for a bootstrap's.
    """
    if not np.isfinite([found.mean, found.low, found.high]).all():
        return np.nan
    margin = 0.0 if rule.margin is None else rule.margin
    inside = margin > 0 and found.low > rule.null - margin and found.high < rule.null + margin
    if rule.side and not inside:
        margin = 0.0
    least = np.inf
    for bound in {rule.null - margin, rule.null + margin}:
        half = found.mean - found.low if bound < found.mean else found.high - found.mean
        distance = abs(bound - found.mean)
        least = min(least, distance / half if half > 0 else np.inf if distance > 0 else 0)
    freedom = found.freedom
    return float(2 * stats.t.sf(least * stats.t.ppf((1 + LEVEL) / 2, freedom), freedom))


class Findings:
    """The findings of one chapter. Glues each of its parameters under its own name.

    values: the notebook's globals().
    """

    def __init__(self, chapter: str, values: Mapping[str, object]):
        self.chapter, self.rows, self.shown = chapter, [], {}
        self.default = is_default(chapter, values)
        for name in read_parameters(find_notebook(chapter)):
            glue(name, values[name])

    def add(
        self,
        key: str,
        claim: str,
        found: Estimate,
        rule: Rule,
        *,
        published: float | None = None,
        printed: str = "",
        source: str = "",
        undecided: str = "",
        form: str = ".2f",
    ) -> str:
        """Judge a claim, and give the verdict's word.

        Args:
            key: its name on the page. rule, published, undecided: as in `verdict`.
            printed: what the paper prints, where that is not one number. source: where it is printed ("Fig. 3c").
            form: of its numbers on the page.
        """
        if key in {row["key"] for row in self.rows}:
            raise ValueError(f"{self.chapter} has two findings with the key {key!r}")
        word, reason = verdict(found, rule, published, undecided)
        row = {"chapter": self.chapter, "key": key, "claim": claim}
        row |= {"mean": found.mean, "low": found.low, "high": found.high, "p": p_value(found, rule)}
        row |= {"published": printed or ("" if published is None else format(published, form)), "source": source}
        self.rows.append(row | {"rule": str(rule), "verdict": word, "reason": reason})
        self.shown[key] = "–" if np.isnan(found.mean) else format(found, form)
        return word

    def table(self) -> pd.DataFrame:
        """ "Paper against ours", the verdict beside each claim.

        Glues of each finding <key>_mean, _low, _high, _estimate and _verdict, n_findings, and the rows for the book's
        scoreboard.
        """
        for row in self.rows:
            for name in ("mean", "low", "high", "verdict"):
                glue(f"{row['key']}_{name}", row[name])
            glue(f"{row['key']}_estimate", self.shown[row["key"]])
        glue("n_findings", len(self.rows))
        glue(ROWS, json.dumps([row | {"default": self.default} for row in self.rows]))
        shown = [
            {
                "Finding": row["claim"],
                "Verdict": row["verdict"] + (f" ({row['reason']})" if row["reason"] else ""),
                "Published": ", ".join(filter(None, [row["published"], row["source"]])) or "–",
                "Here": self.shown[row["key"]],
                "Holds if": row["rule"],
            }
            for row in self.rows
        ]
        # Its name stands in the columns' row, which saves one.
        return pd.DataFrame(shown).set_index("Finding").rename_axis(index=None, columns="Finding")
