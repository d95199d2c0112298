"""Numbers and sentences shared by the terminal and the page: units, rounding and names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from unicodedata import category

from trt_mpq.evaluate.score_scale import MISSING as MISSING
from trt_mpq.evaluate.score_scale import ScoreScale, score_scale, score_texts
from trt_mpq.evaluate.score_scale import minus as minus
from trt_mpq.evaluate.score_scale import significant as significant
from trt_mpq.report.data import AccuracyFigures, LatencyFigures, Report
from trt_mpq.types import Precision
from trt_mpq.types.target import LatencyError

_TIMES = "\u00d7"
_SIZE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_COUNT_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_ENERGY_UNITS = ((1e3, "J"), (1.0, "mJ"), (1e-3, "µJ"))


def shapes(weights: Sequence[Sequence[int]]) -> str:
    """Weight shapes as they are printed: with a times sign; several joined by a plus."""
    return " + ".join(_TIMES.join(map(str, shape)) for shape in weights) or "no weight"


def printable(text: str) -> str:
    """`text` without control, escape and bidirectional characters: names come from files nobody vetted."""
    return "".join(c if c.isprintable() or c == "\n" or category(c) == "Zs" else "\ufffd" for c in text)


def methods_text(methods: Mapping[Precision, str]) -> str:
    """The calibration method, or which one each format has: mse for FP8, minmax for INT8; "none" if none has."""
    if not methods:
        return "none"
    if len(set(methods.values())) == 1:
        return next(iter(methods.values()))
    return ", ".join(f"{method} for {precision.name}" for precision, method in methods.items())


def scale_of(accuracy: AccuracyFigures, *others: float | None) -> ScoreScale:
    """How the scores of a report are shown, and `others` beside them."""
    scores = (accuracy.fp32, accuracy.fp16, accuracy.plan, *accuracy.uniform.values(), *others)
    return score_scale(accuracy.metric, scores, accuracy.target)


def value_text(value: float | None) -> str:
    """A value of a tensor, with three significant digits."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value and not 1e-3 <= abs(value) < 1e5:
        return minus(f"{value:.2e}")
    return minus("-" if value < 0 else "") + significant(abs(value))


def rare_text(share: float | None) -> str:
    """A share that is mostly small, in percent."""
    if share is None:
        return MISSING
    return "0" if share == 0 else f"{significant(100 * share, 2)} %" if share >= 1e-7 else "< 0.00001 %"


def score_text(value: float | None, accuracy: AccuracyFigures, *others: float | None) -> str:
    """A score in the unit of its metric, told from the required score and from `others` that stand beside it."""
    return scale_of(accuracy, value, *others).text(value)


def stderr_text(accuracy: AccuracyFigures, score: float | None, stderr: float | None) -> str:
    """The standard error of a score, with the sign before it; empty where it is unknown or none."""
    if score is None or not stderr:
        return ""
    return f" ± {scale_of(accuracy, score).spread(score, stderr)}"


def share_text(value: float | None, accuracy: AccuracyFigures) -> str:
    """A score in per cent of that of FP32, told from the share that is required.

    There is nothing to say unless both are positive, and of a noise ratio, which has no share.
    """
    fp32, known = accuracy.fp32, (accuracy.fp16, accuracy.plan, *accuracy.uniform.values(), value)
    if value is None or fp32 is None or min(value, fp32) <= 0 or scale_of(accuracy).is_noise:
        return MISSING
    shares = [score / fp32 for score in known if score is not None]
    target = None if accuracy.target is None else accuracy.target / fp32
    decimals = score_scale("", [share for share in shares if 0 <= share <= 1], target).decimals
    return f"{100 * value / fp32:.{decimals}f} %"


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


def against_text(latency: LatencyFigures, baseline: Precision) -> str:
    """The plan's latency against the baseline's in words: 27 % ± 6 points below FP16; empty without the latter.

    A difference within the error of the model is none: about equal to FP16.
    """
    baseline_ms, name = latency.of(baseline), baseline.name
    if not baseline_ms:
        return ""
    if latency.error is None:
        return below_text(latency.plan, baseline_ms, name)
    if not latency.tells(latency.plan, baseline_ms):
        return f"about equal to {name} ({change_text(latency.plan, baseline_ms)}{ratio_error(latency.error)})"
    return below_text(latency.plan, baseline_ms, name).replace(" %", f" %{ratio_error(latency.error)}", 1)


def time_error(error: LatencyError | None) -> str:
    """The error of a modelled latency, with the sign before it: 25 % of it; empty where there is none."""
    return "" if error is None else f" ± {round(100 * error.times)} %"


def ratio_error(error: LatencyError | None) -> str:
    """The error of a modelled change, with the sign before it: 6 points of a per cent; empty where there is none."""
    return "" if error is None else f" ± {round(100 * error.ratio)} points"


def latency_text(milliseconds: float | None, reference: float | None = None) -> str:
    """A latency in ms with three significant digits, or in µs if `reference` is below one of those.

    Latencies side by side share the unit of one `reference`; alone, a latency is its own.
    """
    if milliseconds is None:
        return MISSING
    in_ms = (milliseconds if reference is None else reference) >= 1e-3
    return f"{significant(milliseconds)} ms" if in_ms else f"{significant(1000 * milliseconds)} µs"


def energy_text(millijoules: float | None) -> str:
    """An energy with three significant digits, in µJ, mJ or J."""
    if millijoules is None:
        return MISSING
    factor, unit = _unit_for(millijoules, _ENERGY_UNITS)
    return f"{significant(millijoules / factor)} {unit}"


def price_text(latency: LatencyFigures) -> str:
    """What the plan computes for one unit of the price; empty where nobody said a price."""
    samples = latency.samples_per_price(latency.plan)
    return (
        ""
        if samples is None
        else f"{count_text(samples)} samples for 1 of the price, at {latency.price_per_hour:g} an hour"
    )


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
class Variant:
    """One way to run the whole model: FP32, high precision, a uniform plan or the chosen plan (`precision` None)."""

    name: str
    precision: Precision | None
    score: float | None
    latency_ms: float | None
    size_bytes: int | None
    energy_mj: float | None
    meets: bool


def variants(report: Report) -> tuple[Variant, ...]:
    """What the plan is compared with, widest first, and the plan itself last."""
    accuracy, latency, size, energy = report.accuracy, report.latency_ms, report.size_bytes, report.energy_mj
    named = {p: p.name for p in (Precision.FP32, report.baseline)}
    named |= {p: f"uniform {p.name}" for p in _uniform_precisions(report)}
    rows: list[tuple[str, Precision | None, float | None, float | None, int | None, float | None]] = [
        (name, p, accuracy.of(p), latency.of(p), size.of(p), energy.of(p) if energy else None)
        for p, name in named.items()
    ]
    rows.append(("plan", None, accuracy.plan, latency.plan, size.plan, energy.plan if energy else None))
    return tuple(Variant(*row, meets=accuracy.met_by(row[2])) for row in rows)


def slowest_ms(report: Report) -> float:
    """The latency whose unit all of them have."""
    return max(v.latency_ms for v in variants(report) if v.latency_ms is not None)


def has_shares(report: Report) -> bool:
    """Whether scores can be told as shares of that of FP32."""
    return share_text(report.accuracy.plan, report.accuracy) != MISSING


def _uniform_precisions(report: Report) -> list[Precision]:
    known = {*report.accuracy.uniform, *report.latency_ms.uniform, *report.size_bytes.uniform}
    return [p for p in Precision if p.quantized and p in known]


IN_ONNX_RUNTIME = (
    "typed.onnx in ONNX Runtime: load it with graph_optimization_level ORT_ENABLE_BASIC; at higher levels, where the "
    "session option session.disable_quant_qdq has to be 1, it may round biases to integers, drop a Relu, or crash"
)
"""How the delivered file is loaded safely there."""


def done_text(report: Report) -> str:
    """What the commands for a device print at the end, as far as it is known beforehand."""
    latency = latency_text(report.latency_ms.plan)
    return (
        "Run them in the run folder. trtexec ends with `&&&& PASSED`; its `GPU Compute Time: median` is to be compared "
        f"with {latency} ({report.latency_ms.source}, batch {report.latency_ms.batch})."
    )


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
    by = f" on {s.sensitivity} sensitivity" if s.sensitivity else f", not ranked ({s.unranked})"
    how = f"{s.algorithm} search{by}"
    return f"{how}: {plans} tried{early}{_gap_text(s.gap)}, {cost}, {duration_text(s.seconds)}{ended}"


def _gap_text(gap: float | None) -> str:
    """How good the plans are that a solver proposed."""
    if gap is None:
        return ""
    if gap == math.inf:
        return ", where the solver came to no answer within its limit"
    return f", each proposed within {100 * gap:.2g} % of the solver's bound" if gap else ", each proposed exactly"


def file_text(accuracy: AccuracyFigures) -> str:
    """What the file scores beside the plan whose scores are shown; empty if not known."""
    if accuracy.file is None or accuracy.plan is None:
        return ""
    scored, planned = score_texts(accuracy.metric, (accuracy.file, accuracy.plan))
    return (
        f"typed.onnx in ONNX Runtime, which does not round to 16 bit, scores {scored} where the plan scores {planned}"
    )


def duration_text(seconds: float) -> str:
    """A duration as people say it: 8.4 s, 38 s, 2 min 10 s."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
