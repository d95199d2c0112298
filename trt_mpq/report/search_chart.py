"""The pictures of a search: every plan it tried by score and one of its costs, or by two of its costs.

Plans that are also baselines are drawn as baselines only, so that the line follows the search itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from trt_mpq.evaluate.score_scale import ScoreScale
from trt_mpq.report import wording
from trt_mpq.report.cost_axes import CostAxis, Costed, cost_axes
from trt_mpq.report.data import Report, SearchStep
from trt_mpq.report.plot import Plot
from trt_mpq.report.svg import Scale, tick_labels
from trt_mpq.types import Precision


@dataclass(frozen=True)
class _Mark:
    """A labelled plan: a whole-network baseline or the chosen plan; `css` is the precision or "plan"."""

    name: str
    css: str
    score: float
    latency_ms: float | None
    energy_mj: float | None
    size_bytes: int | None

    @property
    def chosen(self) -> bool:
        return self.css == "plan"

    @property
    def title(self) -> str:
        return self.name if self.chosen else f"every group in {self.name}"


_Point = tuple[float, float]


def search_charts(report: Report) -> Mapping[str, str]:
    """Every picture of the search by what it shows: scores against each cost, then each cost against another."""
    axes = cost_axes(report)
    against = {f"score against {cost.name}": search_chart(report, cost) for cost in axes}
    return against | {f"{y.name} against {x.name}": _cost_chart(report, x, y) for x, y in combinations(axes, 2)}


def search_chart(report: Report, cost: CostAxis | None = None) -> str:
    """Score against a cost for the search's path, the uniform plans, the high precision and the chosen plan.

    Args:
        report: What is drawn.
        cost: One of its costs; by default the first of them.
    """
    cost = cost or cost_axes(report)[0]
    marks, steps = _marks(report, [cost]), [step for step in report.search.path if step.score is not None]
    scale = wording.scale_of(report.accuracy, *(step.score for step in steps))
    height, y = scale.unit.height, _score_axis(report, steps, marks, scale)
    plot = Plot(f"Score against {_plain(cost)} for every plan evaluated", _cost_scale(cost, marks, steps), y)

    def at(plan: SearchStep | _Mark) -> _Point:
        return _of(cost, plan), height(plan.score or 0.0)

    def error(plan: SearchStep | _Mark) -> tuple[float, float]:
        stderr = (report.accuracy.plan_stderr if isinstance(plan, _Mark) else plan.stderr) or 0.0
        return height((plan.score or 0.0) - stderr), height((plan.score or 0.0) + stderr)

    def draw_error(plan: SearchStep | _Mark, css: str) -> None:
        (x, middle), (low, high) = at(plan), error(plan)
        if low < high and y.holds(middle):
            plot.draw_error(x, low, high, css)

    path, chosen = _own(steps, marks, [cost]), [mark for mark in marks if mark.chosen]
    _keep_clear(plot, map(at, path), map(at, marks), map(at, chosen))
    for mark in chosen:
        plot.keep_clear(at(mark)[0], *error(mark), 4, 0)
    _draw_score_axes(plot, cost, y, scale)
    _draw_limits(plot, report, scale)
    _draw_line(plot, map(at, _unbeaten(steps, cost) if report.search.algorithm == "pareto" else path))
    for step in path:
        draw_error(step, "whisker")
    for mark in chosen:
        draw_error(mark, "whisker strong")
    _draw_plans(plot, report, [cost], [(step, at(step)) for step in path], [(mark, at(mark)) for mark in marks])
    return plot.markup()


def _cost_chart(report: Report, x: CostAxis, y: CostAxis) -> str:
    """One cost against another, of the same plans; a line joins the feasible ones that none beats in both."""
    both, marks, steps = (x, y), _marks(report, (x, y)), report.search.path
    scale = _cost_scale(y, marks, steps)
    plot = Plot(f"{_plain(y)} against {_plain(x)} for every plan evaluated", _cost_scale(x, marks, steps), scale)

    def at(plan: SearchStep | _Mark) -> _Point:
        return _of(x, plan), _of(y, plan)

    path = _own(steps, marks, both)
    _keep_clear(plot, map(at, path), map(at, marks), (at(mark) for mark in marks if mark.chosen))
    ticks, unit = scale.ticks(6), y.title.rpartition(", ")[2]
    texts = (f"{text} {unit}" for text in tick_labels(ticks))
    plot.draw_axes(x.title, x.less, dict(zip(ticks, texts, strict=True)))
    _draw_line(plot, map(at, _cheapest(steps, x, y)))
    _draw_plans(plot, report, both, [(step, at(step)) for step in path], [(mark, at(mark)) for mark in marks])
    return plot.markup()


def _keep_clear(plot: Plot, steps: Iterable[_Point], marks: Iterable[_Point], chosen: Iterable[_Point]) -> None:
    for points, width, margin in ((marks, 14, 7), (chosen, 22, 11), (steps, 8, 7)):
        for x, y in points:
            plot.keep_clear(x, y, y, width, margin)


def _draw_line(plot: Plot, points: Iterable[_Point]) -> None:
    for begin, end in pairwise(points):
        plot.draw_line(begin, end)


def _draw_plans(
    plot: Plot,
    report: Report,
    axes: Sequence[CostAxis],
    steps: Sequence[tuple[SearchStep, _Point]],
    marks: Sequence[tuple[_Mark, _Point]],
) -> None:
    """The steps and, over them, the marks, the chosen one below the baselines that it may be."""
    for number, (step, point) in enumerate(steps, start=1):
        plot.draw_step(*point, _css(step), _step_tip(number, step, report, axes), step.plan)
    for mark, point in reversed(marks):
        score = wording.score_text(mark.score, report.accuracy)
        text = mark.name if plot.holds(point[1]) else f"{mark.name} {score} ↓"
        tip = "\n".join((mark.title, score, *(axis.text(_of(axis, mark)) for axis in axes)))
        plot.draw_mark(*point, mark.css, text, tip, _digest(mark, report, axes))


def _marks(report: Report, axes: Iterable[CostAxis]) -> list[_Mark]:
    return [
        _Mark(*_named(v.precision), v.score, v.latency_ms, v.energy_mj, v.size_bytes)
        for v in wording.variants(report)[1:]
        if v.score is not None and all(axis.of(v) is not None for axis in axes)
    ]


def _named(precision: Precision | None) -> tuple[str, str]:
    return ("plan", "plan") if precision is None else (precision.name, str(precision))


def _of(axis: CostAxis, plan: Costed) -> float:
    return axis.of(plan) or 0.0


def _plain(axis: CostAxis) -> str:
    return axis.title.partition(",")[0]


def _own(steps: Iterable[SearchStep], marks: Iterable[_Mark], axes: Sequence[CostAxis]) -> list[SearchStep]:
    """The steps that are no baselines."""
    baselines = {_place(mark, axes) for mark in marks if not mark.chosen}
    return [step for step in steps if _place(step, axes) not in baselines]


def _place(plan: SearchStep | _Mark, axes: Iterable[CostAxis]) -> tuple[float | None, ...]:
    return (*(axis.of(plan) for axis in axes), plan.score)


def _cost_scale(axis: CostAxis, marks: Iterable[_Mark], steps: Iterable[SearchStep]) -> Scale:
    amounts = [*(_of(axis, mark) for mark in marks), *(_of(axis, step) for step in steps)] or [1.0]
    low, high = min(amounts), max(amounts)
    return Scale.around(low, high, share=0.09, least=max(0.05 * high, 1e-9))


def _score_axis(report: Report, steps: list[SearchStep], marks: list[_Mark], scale: ScoreScale) -> Scale:
    """An axis that shows the scores around the required one; hopeless plans fall off its lower edge.

    A uniform 4-bit plan at 10 % would otherwise squeeze the half point that decides everything into one pixel.
    """
    accuracy = report.accuracy
    scores = [s.score for s in steps if s.score is not None] + [m.score for m in marks]
    scores += [s for s in (accuracy.fp32, accuracy.target) if s is not None and not _is_noiseless(s, scale)]
    if not scores:
        return Scale(0, 1)
    heights = [scale.unit.height(score) for score in scores]
    top = max(heights)
    target = min(heights) if accuracy.target is None else scale.unit.height(accuracy.target)
    stderr = abs(
        scale.unit.height((accuracy.plan or 0.0) + (accuracy.plan_stderr or 0.0))
        - scale.unit.height(accuracy.plan or 0.0)
    )
    reach = 2 * max(top - target, stderr, 1e-4 * abs(top), 1e-9)
    low = max(min(heights), target - reach)
    return Scale.around(low, top, share=0.09, least=reach / 10)


def _is_noiseless(score: float, scale: ScoreScale) -> bool:
    """Whether `score` has no place on an axis in decibels."""
    return scale.is_noise and score >= 1


def _draw_score_axes(plot: Plot, cost: CostAxis, y: Scale, scale: ScoreScale) -> None:
    ticks, unit = y.ticks(6), f" {scale.unit.suffix}".rstrip()
    texts = tick_labels([scale.unit.number_at(tick) for tick in ticks])
    plot.draw_axes(cost.title, cost.less, {tick: text + unit for tick, text in zip(ticks, texts, strict=True)})


def _draw_limits(plot: Plot, report: Report, scale: ScoreScale) -> None:
    """The required score, below which no plan may be chosen, and the FP32 score."""
    accuracy, height = report.accuracy, scale.unit.height
    if accuracy.target is not None:
        plot.draw_below(height(accuracy.target), "forbidden")
        text = f"required {wording.score_text(accuracy.target, accuracy)}"
        plot.draw_limit(height(accuracy.target), "required", text, 15)
    if accuracy.fp32 is not None and not _is_noiseless(accuracy.fp32, scale):
        text = f"FP32 {wording.score_text(accuracy.fp32, accuracy)}"
        plot.draw_limit(height(accuracy.fp32), "reference", text, -6)


def _unbeaten(steps: Iterable[SearchStep], cost: CostAxis) -> list[SearchStep]:
    """The steps that none beats in both cost and score, the cheapest first: the frontier."""
    kept: list[SearchStep] = []
    for step in sorted(steps, key=lambda s: (_of(cost, s), -(s.score or 0.0))):
        if not kept or (step.score or 0.0) > (kept[-1].score or 0.0):
            kept.append(step)
    return kept


def _cheapest(steps: Iterable[SearchStep], x: CostAxis, y: CostAxis) -> list[SearchStep]:
    """The feasible steps that no other beats in both costs, the cheapest by the first of them first."""
    kept: list[SearchStep] = []
    for step in sorted((step for step in steps if step.feasible), key=lambda s: (_of(x, s), _of(y, s))):
        if not kept or _of(y, step) < _of(y, kept[-1]):
            kept.append(step)
    return kept


def _css(step: SearchStep) -> str:
    return " ".join((*["feasible"] * step.feasible, *["estimated"] * (not step.complete)))


def _step_tip(number: int, step: SearchStep, report: Report, axes: Iterable[CostAxis]) -> str:
    score = wording.score_text(step.score, report.accuracy)
    stderr = wording.stderr_text(report.accuracy, step.score, step.stderr)
    verdict = f"{'meets' if step.feasible else 'misses'} the target"
    if not step.complete:
        score, verdict = f"about {score}", f"{verdict}: decided after {step.samples:,} samples"
    if step.delivered is not None and not step.feasible:
        verdict = f"but typed.onnx misses the target: {wording.score_text(step.delivered, report.accuracy)}"
    lines = (
        f"{number}. {step.note}",
        f"{report.accuracy.metric} {score}{stderr}, {verdict}",
        *(axis.text(_of(axis, step)) for axis in axes),
        ", ".join(f"{n} in {p.name}" for p, n in step.counts.items()),
    )
    return "\n".join(line.replace("\n", " ") for line in lines)


def _digest(mark: _Mark, report: Report, axes: Sequence[CostAxis]) -> str | None:
    """The plan that a mark stands for, if the search tried it."""
    if mark.chosen:
        return report.plan.digest
    place = _place(mark, axes)
    return next((s.plan for s in report.search.path if _place(s, axes) == place), None)
