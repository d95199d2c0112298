import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.samples import FP8, FP16, INT4, INT8, hostile_report, noisy_report, sample_report, uniform_report
from trt_mpq.report import Report, charts
from trt_mpq.report.search_chart import _score_axis, search_chart, search_charts
from trt_mpq.report.svg import Scale, tick_labels
from trt_mpq.report.wording import scale_of

LONG = "/backbone/" + "block/" * 60 + "Conv"


def _variations() -> dict[str, Report]:
    base = sample_report(20)
    odd = [None, 0.0, -0.02, 1e-9, 5.0, float("nan"), float("inf")]
    odd_rows = tuple(replace(r, sensitivity={INT8: odd[r.index % len(odd)]}) for r in base.group_rows)
    still = tuple(replace(s, latency_ms=0.02, score=0.9) for s in base.search.path)
    unit = dict.fromkeys(base.latency_ms.uniform, 0.02)
    return {
        "one group": sample_report(1),
        "60 groups": sample_report(60, (FP16, FP8, INT8)),
        "200 groups": sample_report(200),
        "study": sample_report(12, (FP16, INT8, INT4)),
        "trivial": uniform_report(20),
        "hostile": hostile_report(),
        "long ids": replace(base, group_rows=tuple(replace(r, id=LONG + str(r.index)) for r in base.group_rows)),
        "odd sensitivities": replace(base, group_rows=odd_rows),
        "no sensitivities": replace(base, group_rows=tuple(replace(r, sensitivity={}) for r in base.group_rows)),
        "zero sensitivities": replace(
            base, group_rows=tuple(replace(r, sensitivity={INT8: 0.0}) for r in base.group_rows)
        ),
        "negative sensitivities": replace(
            base, group_rows=tuple(replace(r, sensitivity={INT8: -0.1 * r.index}) for r in base.group_rows)
        ),
        "no group latencies": replace(
            base, group_rows=tuple(replace(r, latency_ms=None, fp16_latency_ms=None) for r in base.group_rows)
        ),
        "identical latencies": replace(
            base,
            latency_ms=replace(base.latency_ms, fp32=0.02, fp16=0.02, plan=0.02, uniform=unit),
            search=replace(base.search, path=still),
        ),
        "single step": replace(base, search=replace(base.search, path=base.search.path[-1:])),
        "no steps": replace(base, search=replace(base.search, path=())),
        "decibels": replace(
            base,
            accuracy=replace(
                base.accuracy, metric="psnr", fp32=None, fp16=58.0, plan=31.0, target=30.0, plan_stderr=None, uniform={}
            ),
        ),
        "noise": noisy_report(),
        "no scores": replace(
            base, accuracy=replace(base.accuracy, fp32=None, fp16=None, plan=None, target=None, uniform={})
        ),
    }


VARIATIONS = _variations()


def _drawings(report: Report) -> list[str]:
    strips = [charts.sensitivity_bars(report, p) for p in (FP8, INT8)]
    bars = [charts.latency_bars(report), charts.size_bars(report), charts.share_bar(report.plan.counts)]
    return [charts.network_ribbon(report), search_chart(report), *strips, *bars]


@pytest.mark.parametrize("name", VARIATIONS)
def test_drawings_are_well_formed_and_finite(name: str) -> None:
    for text in _drawings(VARIATIONS[name]):
        drawing = ElementTree.fromstring(text)
        assert drawing.get("role") == "img"
        assert drawing.get("aria-label")
        for element in drawing.iter():
            for key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "r"):
                value = element.get(key, "0")
                assert re.fullmatch(r"-?\d+(\.\d+)?%?", value), f"{element.tag} has {key}={value!r}"
                assert float(value.rstrip("%")) >= 0 or key not in ("width", "height")


def _rects(text: str, css: str) -> list[ElementTree.Element]:
    return [r for r in ElementTree.fromstring(text).iter("rect") if (r.get("class") or "").split() == [css]]


def _share(element: ElementTree.Element, key: str) -> float:
    return float((element.get(key) or "").rstrip("%")) / 100


def test_ribbon_is_proportional_to_latency() -> None:
    report = sample_report(20)
    fp16 = report.latency_ms.fp16
    assert fp16 is not None
    planned = [r for r in ElementTree.fromstring(charts.network_ribbon(report)).iter("rect") if r.get("data-group")][
        20:
    ]
    widths = [b - a for a, b in pairwise(_share(r, "x") for r in planned)]
    expected = [(row.latency_ms or 0) / fp16 for row in report.group_rows[:-1]]
    assert widths == pytest.approx(expected, abs=2e-5)
    assert [r.get("class") for r in planned] == [str(row.precision) for row in report.group_rows]


def test_plan_bar_is_split_by_precision_and_adds_up() -> None:
    report = sample_report(20)
    fp32 = report.latency_ms.fp32
    assert fp32 is not None
    drawing = ElementTree.fromstring(charts.latency_bars(report))
    plan = list(drawing.iter("rect"))[3:]
    assert [r.get("class") for r in plan] == ["fp16", "int8", "other"]
    assert sum(_share(r, "width") for r in plan) == pytest.approx(report.latency_ms.plan / fp32, abs=1e-4)


def test_sensitivity_bars_rise_with_sensitivity() -> None:
    report = sample_report(30)
    bars = [r for p in ("fp16", "int8") for r in _rects(charts.sensitivity_bars(report, INT8), p)]
    bars.sort(key=lambda r: _share(r, "x"))
    heights = [float(r.get("height") or 0) for r in bars]
    values = [row.sensitivity[INT8] or 0.0 for row in report.group_rows]
    order = sorted(range(30), key=values.__getitem__)
    assert [heights[i] for i in order] == sorted(heights)


def test_search_chart_clips_hopeless_plans_but_names_their_score() -> None:
    report = VARIATIONS["study"]
    scores = [s for s in report.search.path if s.score is not None]
    scale = scale_of(report.accuracy)
    axis = _score_axis(report, scores, [], scale)
    assert not axis.holds(scale.unit.height(report.accuracy.uniform[INT4] or 0))
    assert axis.holds(scale.unit.height(report.accuracy.target or 0))
    assert axis.holds(scale.unit.height(report.accuracy.fp32 or 0))
    assert "INT4 58.62 % ↓" in search_chart(report)


def test_search_chart_marks_feasible_steps() -> None:
    report = sample_report(20)
    drawing = ElementTree.fromstring(search_chart(report))
    steps = [c for c in drawing.iter("circle") if "step" in (c.get("class") or "").split()]
    uniform = sum(s.note.startswith("uniform") for s in report.search.path)
    chosen_or_step = [s for s in report.search.path if not s.note.startswith("uniform")]
    assert len(steps) == len(report.search.path) - uniform
    assert ["feasible" in (c.get("class") or "") for c in steps] == [s.feasible for s in chosen_or_step]
    assert ["estimated" in (c.get("class") or "") for c in steps] == [not s.complete for s in chosen_or_step]
    for circle, step in zip(steps, chosen_or_step, strict=True):
        tip = circle.get("data-tip") or ""
        assert ("target: decided after 1,600 samples" in tip) == ("top1 about " in tip) == (not step.complete)


def test_costs_are_drawn_against_each_other_with_the_frontier_of_feasible_plans() -> None:
    """Of four plans one misses the target and one is beaten in both costs; the line joins the two that are left."""
    report = sample_report(20)
    template = next(step for step in report.search.path if step.feasible)
    whole = report.size_bytes.fp32
    costs = {"a": (1.0, 0.9, True), "b": (2.0, 0.6, True), "c": (2.5, 0.7, True), "d": (0.5, 0.3, False)}
    path = tuple(
        replace(template, note=plan, plan=plan, latency_ms=ms, size_bytes=int(size * whole), feasible=feasible)
        for plan, (ms, size, feasible) in costs.items()
    )
    report = replace(report, search=replace(report.search, path=path))
    charts = search_charts(report)
    assert list(charts) == ["score against latency", "score against size", "size against latency"]
    drawing = ElementTree.fromstring(charts["size against latency"])
    at = {step.get("data-plan"): (step.get("cx"), step.get("cy")) for step in drawing.iter("circle")}
    [line] = [line for line in drawing.iter("line") if line.get("class") == "path"]
    assert [(line.get("x1"), line.get("y1")), (line.get("x2"), line.get("y2"))] == [at["a"], at["b"]]
    assert float(at["d"][1]) > float(at["b"][1]) > float(at["c"][1]) > float(at["a"][1]), "what is smaller lies lower"
    tip = next(step.get("data-tip") for step in drawing.iter("circle") if step.get("data-plan") == "b")
    assert tip.splitlines()[2] == "modelled 2.00 ms"
    assert tip.splitlines()[3].endswith(" MB")


lows = st.floats(-1e6, 1e6)


@given(lows, st.floats(1e-6, 1e6), st.integers(2, 8))
def test_linear_ticks_are_even_inside_and_told_apart(low: float, span: float, count: int) -> None:
    scale = Scale(low, low + max(span, abs(low) * 1e-6))
    ticks = scale.ticks(count)
    assert 1 <= len(ticks) <= count + 1
    slack = (scale.high - scale.low) * 1e-6
    assert all(scale.low - slack <= t <= scale.high + slack for t in ticks)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(ticks)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    read = [float(text.replace("\N{MINUS SIGN}", "-")) for text in labels]
    if len(ticks) > 1:
        assert read == pytest.approx(ticks, abs=abs(step) * 1e-3)


@given(st.floats(1e-9, 1e3), st.floats(1.5, 1e7), st.floats(-10, 1e10))
def test_log_scale_stays_within_the_drawing(low: float, ratio: float, value: float) -> None:
    scale = Scale(low, low * ratio, log=True)
    assert 0 <= scale.at(value) <= 1
    assert scale.at(low) == pytest.approx(0, abs=1e-9)
    assert scale.at(low * ratio) == pytest.approx(1)
    assert all(low * 0.999 <= t <= low * ratio * 1.001 for t in scale.ticks(5))


def test_power_labels() -> None:
    assert [charts._power_label(10.0**e) for e in (-12, -3, -1, 0, 1, 4)] == ["10⁻¹²", "10⁻³", "0.1", "1", "10", "10⁴"]


def test_padding_makes_room_even_for_one_value() -> None:
    scale = Scale.around(0.02, 0.02, least=0.001)
    assert scale.low < 0.02 < scale.high


@pytest.mark.parametrize(
    ("values", "log"),
    [([], False), ([0.0, 0.0], False), ([1.0, 2.0, 3.0], False), ([1e-5, 1e-4, 1e-4, 1.0], True), ([-1.0, 0.5], False)],
)
def test_sensitivity_scale_is_logarithmic_only_for_heavy_tails(values: list[float], log: bool) -> None:
    scale = charts._sensitivity_scale(values)
    assert scale.log is log
    assert scale.low < scale.high
