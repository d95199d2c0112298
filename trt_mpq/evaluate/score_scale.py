"""Numbers in words; scores in the unit that people know the metric in, with enough digits to tell a miss from a hit.

Fractions are shown in per cent. The metric `sqnr` keeps ``1 - noise power / signal power``, which can be averaged and
compared; people know it in decibels, ``-10 log10(noise / signal)``. `perplexity` keeps its reciprocal, which grows as
it gets better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MISSING = "\u2013"
_MINUS = "\u2212"
_MOST_DECIMALS = 12
_LARGEST_DB = 150.0
"""Where a picture ends: float32 has no more."""
_LARGEST_PERPLEXITY = 1e9
"""Likewise, of a model that gives the right classes no probability at all."""


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
class Unit:
    """How one score is shown; as it is, unless a kind of score says otherwise.

    Attributes:
        suffix: Stands behind a number.
        loss_suffix: Stands behind a difference of scores.
        factor: What scores and their differences are multiplied by.
        decimals: Fewest digits shown: behind the point, or significant ones.
        style: "f" counts digits behind the point, "g" significant ones.
    """

    suffix: str = ""
    loss_suffix: str = ""
    factor: float = 1.0
    decimals: int = 4
    style: str = "g"

    def number(self, score: float) -> float:
        """`score` as it is shown."""
        return self.factor * score

    def spread(self, score: float, stderr: float) -> float:
        """The standard error `stderr` of `score`, in what `number` is in."""
        return self.factor * stderr

    def height(self, score: float) -> float:
        """Where `score` stands on an axis on which higher is better."""
        return self.number(score)

    def number_at(self, height: float) -> float:
        """The number at a `height`."""
        return height


class _Decibels(Unit):
    def number(self, score: float) -> float:
        return _LARGEST_DB if score >= 1 else max(min(-10 * math.log10(1 - score), _LARGEST_DB), 0.0)

    def spread(self, score: float, stderr: float) -> float:
        return 10 / math.log(10) * stderr / max(1 - score, stderr)


class _Perplexity(Unit):
    def number(self, score: float) -> float:
        return 1 / max(score, 1 / _LARGEST_PERPLEXITY)

    def spread(self, score: float, stderr: float) -> float:
        return stderr / max(score, stderr) ** 2

    def height(self, score: float) -> float:
        return -self.number(score)

    def number_at(self, height: float) -> float:
        return abs(height)


_PLAIN = Unit()
_PERCENT = Unit("%", " points", 100.0, 2, "f")
_DECIBELS = _Decibels("dB", " of the signal's power", 1.0, 1, "f")
_PERPLEXITY = _Perplexity("", " points of the labels' mean probability", 100.0)
_UNITS = {"sqnr": _DECIBELS, "perplexity": _PERPLEXITY}
"""Of metrics whose scores are known in another form than the one that is averaged and compared."""


@dataclass(frozen=True)
class ScoreScale:
    """How the scores of one metric are shown side by side: in one unit, with as many digits."""

    unit: Unit
    decimals: int

    @property
    def is_noise(self) -> bool:
        """Whether scores say how much noise there is, so that equal outputs have no number."""
        return self.unit is _DECIBELS

    def text(self, score: float | None) -> str:
        """`score` with its unit; equal outputs have no noise and so no decibels."""
        if score is None or not math.isfinite(score):
            return MISSING
        return "bit-equal" if self.is_noise and score >= 1 else self._with_unit(self.unit.number(score))

    def change(self, before: float | None, after: float | None) -> str:
        """What a score gained, with its sign."""
        values = [value for value in (before, after) if value is not None and math.isfinite(value)]
        if len(values) < 2 or (self.is_noise and max(values) >= 1):
            return MISSING
        return self._with_unit(self.unit.number(values[1]) - self.unit.number(values[0]), "+")

    def spread(self, score: float, stderr: float) -> str:
        """The standard error `stderr` of `score`."""
        return self._with_unit(self.unit.spread(score, stderr))

    def loss(self, loss: float) -> str:
        """A difference of scores: points of percentages, noise of the signal, else a plain number."""
        return f"{self.bare_loss(loss)}{self.unit.loss_suffix}"

    def bare_loss(self, loss: float) -> str:
        """The same without its unit, for one that follows."""
        return f"{self.unit.factor * loss:.2g}"

    def _with_unit(self, number: float, sign: str = "") -> str:
        return minus(f"{number:{sign}.{self.decimals}{self.unit.style}} {self.unit.suffix}".rstrip())


def score_scale(metric: str, scores: Iterable[float | None], target: float | None = None) -> ScoreScale:
    """How the `scores` of `metric` are shown side by side.

    Each that misses the `target` is told from it by its digits, and none is taken for it that is above.
    """
    known = [score for score in scores if score is not None and math.isfinite(score)]
    unit = _unit(metric, known if target is None else [*known, target])
    if target is None:
        return ScoreScale(unit, unit.decimals)
    scales = (ScoreScale(unit, digits) for digits in range(unit.decimals, _MOST_DECIMALS))
    wanted = [score for score in known if score != target]
    enough = (s for s in scales if all(s.text(score) != s.text(target) for score in wanted))
    return next(enough, ScoreScale(unit, _MOST_DECIMALS))


def score_texts(metric: str, scores: Sequence[float]) -> list[str]:
    """The `scores` of `metric`, each told from the first."""
    return [*map(score_scale(metric, scores, scores[0]).text, scores)]


def _unit(metric: str, scores: list[float]) -> Unit:
    fractions = _PERCENT if all(0 <= score <= 1 for score in scores) else _PLAIN
    return _UNITS.get(metric, fractions)
