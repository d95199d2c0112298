"""The picture of a search: every plan it tried by score and one of its costs, with the score it had to keep.

Plans that are also baselines are drawn as baselines only, so that the line follows the search itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from trt_mpq.evaluate.score_scale import ScoreScale
from trt_mpq.report import wording
from trt_mpq.report.cost_axes import CostAxis, cost_axes
from trt_mpq.report.data import Report, SearchStep
from trt_mpq.report.svg import Scale, add, canvas, markup, percent, tick_labels

_HEIGHT = 350.0
_NOMINAL_WIDTH = 520.0
"""Width in pixels for which labels are kept apart."""
_NARROW_WIDTH = 250.0
"""Width in pixels down to which no label leaves the drawing."""
_Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the nominal width."""
_DIAMOND = "M0-7 7 0 0 7-7 0Z"


@dataclass(frozen=True)
class _Mark:
    """A labelled point: a whole-network baseline or the chosen plan."""

    name: str
    css: str
    cost: float
    score: float

    @property
    def chosen(self) -> bool:
        return self.css == "plan"


@dataclass(frozen=True)
class _Axes:
    """Where costs and scores lie; `scale` says in which unit scores are drawn."""

    cost: CostAxis
    x: Scale
    y: Scale
    scale: ScoreScale

    def cost_of(self, step: SearchStep) -> float:
        return self.cost.of(step) or 0.0

    def left(self, cost: float) -> str:
        return percent(self.x.at(cost))

    def top(self, score: float) -> float:
        return _HEIGHT * (1 - self.y.at(self.scale.unit.height(score)))

    def holds(self, score: float) -> bool:
        return self.y.holds(self.scale.unit.height(score))

    def box(self, cost: float, score: float, width: float) -> _Box:
        return _box(_NOMINAL_WIDTH * self.x.at(cost), self.top(score), width)


def search_chart(report: Report, cost: CostAxis | None = None) -> str:
    """Score against a cost for the search's path, the uniform plans, the high precision and the chosen plan.

    Args:
        report: What is drawn.
        cost: One of its costs; by default the first of them.
    """
    cost = cost or cost_axes(report)[0]
    marks = _marks(report, cost)
    steps = [s for s in report.search.path if s.score is not None]
    scale = wording.scale_of(report.accuracy, *(step.score for step in steps))
    amounts = [cost.of(s) or 0.0 for s in steps] + [m.cost for m in marks]
    axes = _Axes(cost, _cost_scale(amounts or [1.0]), _score_axis(report, steps, marks, scale), scale)
    baselines = {(m.cost, m.score) for m in marks if not m.chosen}
    path = [s for s in steps if (cost.of(s), s.score) not in baselines]
    drawing = canvas(_HEIGHT + 44, f"Score against {cost.title.partition(',')[0]} for every plan evaluated")
    taken = [axes.box(m.cost, m.score, 14) for m in marks]
    taken += [box for m in marks if m.chosen for box in _whisker_boxes(axes, report, m)]
    taken += [axes.box(axes.cost_of(s), s.score or 0.0, 8) for s in path]
    _draw_grid(drawing, axes)
    _draw_limits(drawing, axes, report, taken)
    _draw_line(drawing, axes, _unbeaten(axes, steps) if report.search.algorithm == "pareto" else path)
    _draw_path(drawing, axes, report, path)
    for mark in reversed(marks):
        _draw_mark(drawing, axes, report, mark, taken)
    return markup(drawing)


def _marks(report: Report, cost: CostAxis) -> list[_Mark]:
    return [
        _Mark(v.precision.name if v.precision else "plan", str(v.precision or "plan"), amount, v.score)
        for v in wording.variants(report)[1:]
        if (amount := cost.of(v)) is not None and v.score is not None
    ]


def _cost_scale(amounts: list[float]) -> Scale:
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


def _whisker_boxes(axes: _Axes, report: Report, chosen: _Mark) -> list[_Box]:
    """What the plan's ring and error bar cover."""
    score, stderr = chosen.score, report.accuracy.plan_stderr or 0.0
    x, y = _NOMINAL_WIDTH * axes.x.at(chosen.cost), axes.top(score)
    return [(x - 11, y - 11, x + 11, y + 11), (x - 2, axes.top(score + stderr), x + 2, axes.top(score - stderr))]


def _draw_grid(drawing: Element, axes: _Axes) -> None:
    ticks, unit = axes.y.ticks(6), f" {axes.scale.unit.suffix}".rstrip()
    for tick, text in zip(ticks, tick_labels([axes.scale.unit.number_at(tick) for tick in ticks]), strict=True):
        y = _HEIGHT * (1 - axes.y.at(tick))
        add(drawing, "line", x1="0", x2="100%", y1=y, y2=y, class_="grid")
        add(drawing, "text", text + unit, x=-8, y=y + 4, class_="tick", text_anchor="end")
    add(drawing, "line", x1="0", x2="100%", y1=_HEIGHT, y2=_HEIGHT, class_="axis")
    xticks = axes.x.ticks(5)
    for tick, text in zip(xticks, tick_labels(xticks), strict=True):
        x = axes.left(tick)
        add(drawing, "line", x1=x, x2=x, y1=_HEIGHT, y2=_HEIGHT + 5, class_="axis")
        add(drawing, "text", text, x=x, y=_HEIGHT + 19, class_="tick", text_anchor="middle")
    add(drawing, "text", f"← {axes.cost.less}", x="0", y=_HEIGHT + 38, class_="tick")
    add(drawing, "text", axes.cost.title, x="100%", y=_HEIGHT + 38, class_="tick", text_anchor="end")


def _draw_limits(drawing: Element, axes: _Axes, report: Report, taken: list[_Box]) -> None:
    """The required score, below which no plan may be chosen, and the FP32 score."""
    accuracy = report.accuracy
    if accuracy.target is not None:
        y = axes.top(accuracy.target)
        add(drawing, "rect", x="0", width="100%", y=y, height=_HEIGHT - y, class_="forbidden")
        text = f"required {wording.score_text(accuracy.target, accuracy)}"
        _limit(drawing, y, "required", text, 15, taken)
    if accuracy.fp32 is not None and not _is_noiseless(accuracy.fp32, axes.scale):
        text = f"FP32 {wording.score_text(accuracy.fp32, accuracy)}"
        _limit(drawing, axes.top(accuracy.fp32), "reference", text, -6, taken)


def _limit(drawing: Element, y: float, css: str, text: str, dy: float, taken: list[_Box]) -> None:
    """A horizontal line with its name at the first free of right end, left end and middle."""
    add(drawing, "line", x1="0", x2="100%", y1=y, y2=y, class_=css)
    width = _text_width(text)
    places = {"end": 1.0, "start": 0.0, "middle": 0.5}
    boxes = {a: _box(_anchored(_NOMINAL_WIDTH * x, width, a), y + dy - 4, width) for a, x in places.items()}
    anchor = next((a for a, box in boxes.items() if not _meets_any(box, taken)), "end")
    taken.append(boxes[anchor])
    strong = " strong" if css == "required" else ""
    add(drawing, "text", text, x=percent(places[anchor]), y=y + dy, class_=f"note{strong}", text_anchor=anchor)


def _unbeaten(axes: _Axes, steps: list[SearchStep]) -> list[SearchStep]:
    """The steps that none beats in both cost and score, the cheapest first: the frontier."""
    kept: list[SearchStep] = []
    for step in sorted(steps, key=lambda s: (axes.cost_of(s), -(s.score or 0.0))):
        if not kept or (step.score or 0.0) > (kept[-1].score or 0.0):
            kept.append(step)
    return kept


def _draw_line(drawing: Element, axes: _Axes, steps: list[SearchStep]) -> None:
    points = [(axes.left(axes.cost_of(s)), axes.top(s.score or 0.0)) for s in steps]
    for (x1, y1), (x2, y2) in pairwise(points):
        add(drawing, "line", x1=x1, y1=y1, x2=x2, y2=y2, class_="path")


def _draw_path(drawing: Element, axes: _Axes, report: Report, steps: list[SearchStep]) -> None:
    points = [(axes.left(axes.cost_of(s)), axes.top(s.score or 0.0)) for s in steps]
    for step, (x, _) in zip(steps, points, strict=True):
        _error_bar(drawing, axes, x, step.score or 0.0, step.stderr, "whisker")
    for i, (step, (x, y)) in enumerate(zip(steps, points, strict=True)):
        css = " ".join(("step", *["feasible"] * step.feasible, *["estimated"] * (not step.complete)))
        tip = _step_tip(i, step, report, axes)
        add(drawing, "circle", cx=x, cy=y, r=4, class_=css, data_tip=tip, data_plan=step.plan)


def _error_bar(drawing: Element, axes: _Axes, x: str, score: float, stderr: float | None, css: str) -> None:
    if stderr and axes.holds(score):
        add(drawing, "line", x1=x, x2=x, y1=axes.top(score - stderr), y2=axes.top(score + stderr), class_=css)


def _step_tip(index: int, step: SearchStep, report: Report, axes: _Axes) -> str:
    score = wording.score_text(step.score, report.accuracy)
    stderr = wording.stderr_text(report.accuracy, step.score, step.stderr)
    verdict = f"{'meets' if step.feasible else 'misses'} the target"
    if not step.complete:
        score, verdict = f"about {score}", f"{verdict}: decided after {step.samples:,} samples"
    if step.delivered is not None and not step.feasible:
        verdict = f"but typed.onnx misses the target: {wording.score_text(step.delivered, report.accuracy)}"
    lines = (
        f"{index + 1}. {step.note}",
        f"{report.accuracy.metric} {score}{stderr}, {verdict}",
        axes.cost.text(axes.cost_of(step)),
        ", ".join(f"{n} in {p.name}" for p, n in step.counts.items()),
    )
    return "\n".join(line.replace("\n", " ") for line in lines)


def _draw_mark(drawing: Element, axes: _Axes, report: Report, mark: _Mark, taken: list[_Box]) -> None:
    x, y = axes.left(mark.cost), axes.top(mark.score)
    score = wording.score_text(mark.score, report.accuracy)
    where = axes.cost.text(mark.cost)
    name = mark.name if mark.chosen else f"every group in {mark.name}"
    if mark.chosen:
        _error_bar(drawing, axes, x, mark.score, report.accuracy.plan_stderr, "whisker strong")
    tip, plan = f"{name}\n{score}\n{where}", _digest(mark, report, axes)
    spot = add(drawing, "svg", x=x, y=y, overflow="visible", data_tip=tip, **({"data_plan": plan} if plan else {}))
    if mark.chosen:
        add(spot, "circle", r=10, class_="halo")
        add(spot, "circle", r=5, class_="chosen")
    else:
        add(spot, "path", d=_DIAMOND, class_=f"baseline {mark.css}")
    text = mark.name if axes.holds(mark.score) else f"{mark.name} {score} ↓"
    dx, dy, anchor = _label_place(axes, mark, text, taken)
    add(spot, "text", text, x=dx, y=dy, class_="note strong" if mark.chosen else "note", text_anchor=anchor)


def _digest(mark: _Mark, report: Report, axes: _Axes) -> str | None:
    """The plan that a mark stands for, if the search tried it."""
    if mark.chosen:
        return report.plan.digest
    same = (s.plan for s in report.search.path if (axes.cost_of(s), s.score) == (mark.cost, mark.score))
    return next(same, None)


def _label_place(axes: _Axes, mark: _Mark, text: str, taken: list[_Box]) -> tuple[float, float, str]:
    """The first of a few places around the mark where the label meets no other mark or label."""
    x, y = _NOMINAL_WIDTH * axes.x.at(mark.cost), axes.top(mark.score)
    width = _text_width(text)
    places = [(15.0, 4.0, "start"), (-15.0, 4.0, "end"), (0.0, 25.0, "middle"), (0.0, -16.0, "middle")]
    places += [(13.0, 20.0, "start"), (-13.0, 20.0, "end"), (13.0, -12.0, "start"), (-13.0, -12.0, "end")]
    if not axes.holds(mark.score):
        places = [(0.0, -14.0, "middle"), (10.0, -14.0, "start"), (-10.0, -14.0, "end"), (0.0, -30.0, "middle")]
    for dx, dy, anchor in places:
        box = _box(_anchored(x + dx, width, anchor), y + dy - 4, width)
        centre = _anchored(_NARROW_WIDTH * axes.x.at(mark.cost) + dx, width, anchor)
        inside = width / 2 <= centre <= _NARROW_WIDTH - width / 2 and box[1] >= -10 and box[3] <= _HEIGHT
        if inside and not _meets_any(box, taken):
            taken.append(box)
            return dx, dy, anchor
    return places[0]


def _text_width(text: str) -> float:
    return 7.2 * len(text)


def _anchored(x: float, width: float, anchor: str) -> float:
    """Centre of a text of `width` anchored at `x`."""
    return x + {"middle": 0.0, "start": width / 2, "end": -width / 2}[anchor]


def _box(x: float, y: float, width: float) -> _Box:
    return x - width / 2, y - 7, x + width / 2, y + 7


def _meets_any(a: _Box, others: list[_Box]) -> bool:
    return any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in others)
