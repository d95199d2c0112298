"""Numbers in words; scores in the unit that people know the metric in, with enough digits to tell a miss from a hit.

Fractions are shown in per cent. The metric `sqnr` keeps ``1 - noise power / signal power``, which can be averaged and
compared; people know it in decibels, ``-10 log10(noise / signal)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MISSING = "\u2013"
_MINUS = "\u2212"
_IN_DECIBELS = "sqnr"
_MOST_DECIMALS = 12
_LARGEST_DB = 150.0
"""Where a picture ends: float32 has no more."""


def minus(text: str) -> str:
    """`text` with typographic minus signs, which are as wide as digits."""
    return text.replace("-", _MINUS)


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits, never in exponent notation and never with fewer whole digits."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else MISSING
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(decimals, 0), 9)}f}"


@dataclass(frozen=True)
class ScoreScale:
    """How the scores of one metric are shown.

    Attributes:
        unit: "%" of fractions, "dB" of noise; empty for numbers shown as they are.
        decimals: Digits behind the point; of plain numbers, significant digits.
    """

    unit: str
    decimals: int

    def number(self, score: float) -> float:
        """`score` in the unit, as it is drawn."""
        if self.unit == "dB":
            return _LARGEST_DB if score >= 1 else max(min(-10 * math.log10(1 - score), _LARGEST_DB), 0.0)
        return 100 * score if self.unit == "%" else score

    def text(self, score: float | None) -> str:
        """`score` with its unit; equal outputs have no noise and so no decibels."""
        if score is None or not math.isfinite(score):
            return MISSING
        return "bit-equal" if self.unit == "dB" and score >= 1 else self._with_unit(self.number(score))

    def change(self, before: float | None, after: float | None) -> str:
        """What a score gained, with its sign."""
        values = [value for value in (before, after) if value is not None and math.isfinite(value)]
        if len(values) < 2 or (self.unit == "dB" and max(values) >= 1):
            return MISSING
        return self._with_unit(self.number(values[1]) - self.number(values[0]), "+")

    def spread(self, score: float, stderr: float) -> str:
        """The standard error `stderr` of `score`."""
        if self.unit == "dB":
            return self._with_unit(10 / math.log(10) * stderr / max(1 - score, stderr))
        return self._with_unit(100 * stderr if self.unit == "%" else stderr)

    def loss(self, loss: float) -> str:
        """A difference of scores: points of percentages, noise of the signal, else a plain number."""
        unit = {"%": " points", "dB": " of the signal's power"}.get(self.unit, "")
        return f"{self.bare_loss(loss)}{unit}"

    def bare_loss(self, loss: float) -> str:
        """The same without its unit, for one that follows."""
        return f"{100 * loss:.2g}" if self.unit == "%" else f"{loss:.2g}"

    def _with_unit(self, number: float, sign: str = "") -> str:
        if not self.unit:
            return minus(f"{number:{sign}.{self.decimals}g}")
        return minus(f"{number:{sign}.{self.decimals}f} {self.unit}")


def score_scale(metric: str, scores: Iterable[float | None], target: float | None = None) -> ScoreScale:
    """How the `scores` of `metric` are shown side by side.

    Each that misses the `target` is told from it by its digits, and none is taken for it that is above.
    """
    known = [score for score in scores if score is not None and math.isfinite(score)]
    unit = _unit(metric, known if target is None else [*known, target])
    decimals = range({"%": 2, "dB": 1}.get(unit, 4), _MOST_DECIMALS)
    if target is None:
        return ScoreScale(unit, decimals[0])
    scales = (ScoreScale(unit, digits) for digits in decimals)
    wanted = [score for score in known if score != target]
    enough = (s for s in scales if all(s.text(score) != s.text(target) for score in wanted))
    return next(enough, ScoreScale(unit, _MOST_DECIMALS))


def _unit(metric: str, scores: list[float]) -> str:
    if metric == _IN_DECIBELS:
        return "dB"
    return "%" if all(0 <= score <= 1 for score in scores) else ""
