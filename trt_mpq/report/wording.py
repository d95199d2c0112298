"""Numbers and sentences shared by the terminal and the page: units, rounding and names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from unicodedata import category

from trt_mpq.report.data import AccuracyFigures, Report
from trt_mpq.types import Precision

MISSING = "\u2013"
_TIMES = "\u00d7"
_MINUS = "\u2212"
_SIZE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_COUNT_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def shapes(weights: Sequence[Sequence[int]]) -> str:
    """Weight shapes as they are printed: with a times sign; several joined by a plus."""
    return " + ".join(_TIMES.join(map(str, shape)) for shape in weights) or "no weight"


def printable(text: str) -> str:
    """`text` without control, escape and bidirectional characters: names come from files nobody vetted."""
    return "".join(c if c.isprintable() or c == "\n" or category(c) == "Zs" else "\ufffd" for c in text)


def minus(text: str) -> str:
    """`text` with typographic minus signs, which are as wide as digits."""
    return text.replace("-", _MINUS)


def methods_text(methods: Mapping[Precision, str]) -> str:
    """The calibration method, or which one each format has: mse for FP8, minmax for INT8."""
    if len(set(methods.values())) == 1:
        return next(iter(methods.values()))
    return ", ".join(f"{method} for {precision.name}" for precision, method in methods.items())


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits, never in exponent notation and never with fewer whole digits."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else MISSING
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(decimals, 0), 9)}f}"


def score_text(value: float | None, accuracy: AccuracyFigures, signed: bool = False) -> str:
    """A score in percent when the metric's scores are fractions, else as a plain number."""
    if value is None or not math.isfinite(value):
        return MISSING
    sign = "+" if signed else ""
    if not accuracy.are_fractions:
        return minus(f"{value:{sign}.4g}")
    return minus(f"{100 * value:{sign}.{_percent_decimals(accuracy)}f} %")


def loss_text(loss: float, accuracy: AccuracyFigures) -> str:
    """A difference of scores in points where the scores are percentages, else as a plain number."""
    return f"{100 * loss:.2g} points" if accuracy.are_fractions else f"{loss:.2g}"


def _percent_decimals(accuracy: AccuracyFigures) -> int:
    """Two, or as many more as it takes to tell a score apart from a target it misses or meets."""
    target = accuracy.target
    scores = [s for s in (accuracy.fp16, accuracy.plan, *accuracy.uniform.values()) if s is not None]
    if target is None:
        return 2
    enough = (d for d in range(2, 6) if all(s == target or round(100 * (s - target), d) for s in scores))
    return next(enough, 5)


def share_text(value: float | None, reference: float | None) -> str:
    """`value` in percent of `reference`; nothing to say unless both are positive."""
    if value is None or reference is None or value <= 0 or reference <= 0:
        return MISSING
    return f"{100 * value / reference:.2f} %"


def change_text(value: float | None, reference: float | None) -> str:
    """Relative change in whole percent, with its sign: +27 %."""
    if value is None or not reference:
        return MISSING
    percent = round(100 * (value / reference - 1))
    return "0 %" if percent == 0 else minus(f"{percent:+d} %")


def below_text(value: float, reference: float, name: str) -> str:
    """Relative change in words: 27 % below FP16."""
    percent = round(100 * (1 - value / reference)) if reference else 0
    return f"same as {name}" if percent == 0 else f"{abs(percent)} % {'below' if percent > 0 else 'above'} {name}"


def latency_text(milliseconds: float | None) -> str:
    """A latency in ms, or in µs below one of those, three significant digits."""
    if milliseconds is None:
        return MISSING
    return f"{significant(milliseconds)} ms" if milliseconds >= 1e-3 else f"{significant(1000 * milliseconds)} µs"


def microseconds_text(milliseconds: float | None) -> str:
    """A latency in microseconds, without the unit."""
    return MISSING if milliseconds is None else significant(1000 * milliseconds)


def size_text(size: float | None, reference: float) -> str:
    """Bytes in the decimal unit of `reference`, so that sizes side by side share one unit."""
    if size is None:
        return MISSING
    factor, unit = _unit_for(reference, _SIZE_UNITS)
    return f"{significant(size / factor)} {unit}"


def count_text(count: float) -> str:
    """A large count with a decimal prefix: 41.2 M."""
    factor, unit = _unit_for(count, _COUNT_UNITS)
    return f"{significant(count / factor)} {unit}".rstrip() if factor > 1 else str(round(count))


def _unit_for(value: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    return next((u for u in units if abs(value) >= u[0]), units[-1])


def sqnr_text(decibel: float | None) -> str:
    """A signal-to-noise ratio in dB; None is what bit-equal outputs have."""
    return "bit-equal" if decibel is None else f"{minus(f'{decibel:.1f}')} dB"


def sensitivity_text(value: float | None) -> str:
    """A sensitivity: its scale is arbitrary, so three digits and an exponent where needed."""
    return MISSING if value is None or not math.isfinite(value) else minus(f"{value:.3g}")


@dataclass(frozen=True)
class _Variant:
    """One way to run the whole model: FP32, high precision, a uniform plan or the chosen plan (`precision` None)."""

    name: str
    precision: Precision | None
    score: float | None
    latency_ms: float | None
    size_bytes: int | None
    meets: bool


def variants(report: Report) -> tuple[_Variant, ...]:
    """What the plan is compared with, widest first, and the plan itself last."""
    accuracy, latency, size = report.accuracy, report.latency_ms, report.size_bytes
    named = {p: p.name for p in (Precision.FP32, report.baseline)}
    named |= {p: f"uniform {p.name}" for p in _uniform_precisions(report)}
    rows: list[tuple[str, Precision | None, float | None, float | None, int | None]] = [
        (name, p, accuracy.of(p), latency.of(p), size.of(p)) for p, name in named.items()
    ]
    rows.append(("plan", None, accuracy.plan, latency.plan, size.plan))
    return tuple(_Variant(*row, meets=accuracy.met_by(row[2])) for row in rows)


def _uniform_precisions(report: Report) -> list[Precision]:
    known = {*report.accuracy.uniform, *report.latency_ms.uniform, *report.size_bytes.uniform}
    return [p for p in Precision if p.quantized and p in known]


def tau_text(value: float | None) -> str:
    """A rank correlation with two digits."""
    return MISSING if value is None else f"{value:.2f}"


def mac_share_text(report: Report) -> str:
    """How much of the arithmetic runs in 8 bit or less."""
    return f"{round(100 * report.plan.mac_share)} % of the multiply-adds in 8 bit or less"


def search_cost(report: Report) -> str:
    """Algorithm, sensitivity metric and what the search cost."""
    s = report.search
    plans = "1 plan" if s.evaluations == 1 else f"{s.evaluations} plans"
    early = f" ({s.decided_early} decided early at {100 * s.confidence:g} % confidence)" if s.decided_early else ""
    cost = f"{significant(s.full_equivalents)} passes over the {report.accuracy.samples:,} evaluation samples"
    ended = f", ended by {s.stopped}" if s.stopped else ""
    how = f"{s.algorithm} search" + (f" on {s.sensitivity} sensitivity" if s.sensitivity else ", no ranking needed")
    return f"{how}: {plans} tried{early}, {cost}, {duration_text(s.seconds)}{ended}"


def duration_text(seconds: float) -> str:
    """A duration as people say it: 8.4 s, 38 s, 2 min 10 s."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
