"""The pictures of a search: every plan it tried by score and one of its costs, or by two of its costs.

Plans that are also baselines are drawn as baselines only, so that the line follows the search itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise

from trt_mpq.evaluate.score_scale import ScoreScale
from trt_mpq.report import wording
from trt_mpq.report.cost_axes import CostAxis, Costed, cost_axes
from trt_mpq.report.data import Report, SearchStep
from trt_mpq.report.plot import Plot
from trt_mpq.report.svg import Scale, tick_labels
from trt_mpq.report.wording import Variant

_Point = tuple[float, float]
_Marks = list[Variant]
"""Labelled plans: the whole-network baselines, and the chosen plan, which has no one precision."""


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

    def at(plan: SearchStep | Variant) -> _Point:
        return _of(cost, plan), height(plan.score or 0.0)

    def error(plan: SearchStep | Variant) -> tuple[float, float]:
        stderr = (report.accuracy.plan_stderr if isinstance(plan, Variant) else plan.stderr) or 0.0
        return height((plan.score or 0.0) - stderr), height((plan.score or 0.0) + stderr)

    def draw_error(plan: SearchStep | Variant, css: str) -> None:
        (x, middle), (low, high) = at(plan), error(plan)
        if low < high and y.holds(middle):
            plot.draw_error(x, low, high, css)

    path, chosen = _own(steps, marks, [cost]), [mark for mark in marks if mark.precision is None]
    _keep_clear(plot, map(at, path), map(at, marks), map(at, chosen))
    for mark in chosen:
        plot.keep_clear(at(mark)[0], *error(mark), 4, 0)
    _draw_score_axes(plot, cost, y, scale)
    _draw_limits(plot, report, scale)
    _draw_line(plot, _unbeaten(map(at, steps), more=True) if report.search.algorithm == "pareto" else map(at, path))
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

    def at(plan: SearchStep | Variant) -> _Point:
        return _of(x, plan), _of(y, plan)

    path = _own(steps, marks, both)
    _keep_clear(plot, map(at, path), map(at, marks), (at(mark) for mark in marks if mark.precision is None))
    ticks, unit = scale.ticks(6), y.title.rpartition(", ")[2]
    texts = (f"{text} {unit}" for text in tick_labels(ticks))
    plot.draw_axes(x.title, x.less, dict(zip(ticks, texts, strict=True)))
    _draw_line(plot, _unbeaten((at(step) for step in steps if step.feasible), more=False))
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
    marks: Sequence[tuple[Variant, _Point]],
) -> None:
    """The steps and, over them, the marks, the chosen one below the baselines that it may be."""
    for number, (step, point) in enumerate(steps, start=1):
        plot.draw_step(*point, _css(step), _step_tip(number, step, report, axes), step.plan)
    for mark, point in reversed(marks):
        score, precision = wording.score_text(mark.score, report.accuracy), mark.precision
        name = precision.name if precision else "plan"
        text = name if plot.holds(point[1]) else f"{name} {score} ↓"
        title = f"every group in {name}" if precision else name
        tip = "\n".join((title, score, *(axis.text(_of(axis, mark)) for axis in axes)))
        plot.draw_mark(*point, str(precision or "plan"), text, tip, _digest(mark, report, axes))


def _marks(report: Report, axes: Sequence[CostAxis]) -> _Marks:
    known = (v for v in wording.variants(report)[1:] if v.score is not None)
    return [variant for variant in known if all(axis.of(variant) is not None for axis in axes)]


def _of(axis: CostAxis, plan: Costed) -> float:
    return axis.of(plan) or 0.0


def _plain(axis: CostAxis) -> str:
    return axis.title.partition(",")[0]


def _own(steps: Iterable[SearchStep], marks: _Marks, axes: Sequence[CostAxis]) -> list[SearchStep]:
    """The steps that are no baselines."""
    baselines = {_place(mark, axes) for mark in marks if mark.precision is not None}
    return [step for step in steps if _place(step, axes) not in baselines]


def _place(plan: SearchStep | Variant, axes: Iterable[CostAxis]) -> tuple[float | None, ...]:
    return (*(axis.of(plan) for axis in axes), plan.score)


def _cost_scale(axis: CostAxis, marks: _Marks, steps: Iterable[SearchStep]) -> Scale:
    amounts = [*(_of(axis, mark) for mark in marks), *(_of(axis, step) for step in steps)] or [1.0]
    low, high = min(amounts), max(amounts)
    return Scale.around(low, high, share=0.09, least=max(0.05 * high, 1e-9))


def _score_axis(report: Report, steps: list[SearchStep], marks: _Marks, scale: ScoreScale) -> Scale:
    """An axis that shows the scores around the required one; hopeless plans fall off its lower edge.

    A uniform 4-bit plan at 10 % would otherwise squeeze the half point that decides everything into one pixel.
    """
    accuracy = report.accuracy
    scores = [s.score for s in steps if s.score is not None] + [m.score for m in marks if m.score is not None]
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


def _unbeaten(points: Iterable[_Point], *, more: bool) -> list[_Point]:
    """The points that none beats, from left to right: of x less is better, of y `more` or less. The frontier."""
    sign, kept = -1 if more else 1, list[_Point]()
    for x, y in sorted(points, key=lambda point: (point[0], sign * point[1])):
        if not kept or sign * y < sign * kept[-1][1]:
            kept.append((x, y))
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


def _digest(mark: Variant, report: Report, axes: Sequence[CostAxis]) -> str | None:
    """The plan that a mark stands for, if the search tried it."""
    if mark.precision is None:
        return report.plan.digest
    place = _place(mark, axes)
    return next((s.plan for s in report.search.path if _place(s, axes) == place), None)
