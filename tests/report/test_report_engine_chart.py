"""The pictures of what ran on the device."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from tests.report.device_samples import DEPLOYMENTS
from tests.report.samples import FP16, INT8
from trt_mpq.report.engine_chart import engine_bars, engine_precision, layer_legend, layer_ribbon
from trt_mpq.types.engine import Deployment

SHARE = re.compile(r"\d+(\.\d+)?%?")


def of(name: str) -> Deployment:
    deployment = DEPLOYMENTS[name].device
    assert deployment is not None
    return deployment


def indices(name: str) -> dict[str, int]:
    return {row.id: row.index for row in DEPLOYMENTS[name].group_rows}


def share(element: ElementTree.Element, key: str) -> float:
    return float((element.get(key) or "").rstrip("%")) / 100


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_drawings_are_well_formed_and_finite(name: str) -> None:
    for text in filter(None, (engine_bars(of(name)), layer_ribbon(of(name), indices(name)))):
        drawing = ElementTree.fromstring(text)
        assert drawing.get("aria-label")
        for element in drawing.iter():
            for key in ("x", "y", "x1", "x2", "y1", "y2", "width", "height"):
                assert SHARE.fullmatch(element.get(key, "0")), f"{element.tag} has {key}={element.get(key)}"


def test_bars_end_at_the_median_and_whiskers_at_the_p99() -> None:
    drawing = ElementTree.fromstring(engine_bars(of("plan shipped")) or "")
    longest = 0.0311 * 1.04
    medians = [0.0214, 0.0311, 0.0192, 0.0221, 0.0224]
    assert [share(r, "width") for r in drawing.iter("rect")] == pytest.approx([m / longest for m in medians], abs=1e-5)
    ends = [share(line, "x2") for line in drawing.iter("line")][1::2]
    assert ends == pytest.approx([1.04 * m / longest for m in medians], abs=1e-5)
    labels = [t for t in drawing.iter("text") if t.get("x") == "0"]
    assert [t.text for t in labels] == ["plan, shipped", "FP16", "uniform INT8", "candidate 2", "candidate 3"]
    assert ["strong" in (t.get("class") or "") for t in labels] == [True, False, False, False, False]


def test_engines_that_were_not_timed_have_no_bar() -> None:
    drawing = ElementTree.fromstring(engine_bars(of("some failed")) or "")
    assert len(list(drawing.iter("rect"))) == 2
    assert engine_bars(of("all failed")) is None
    assert engine_bars(of("untimed")) is None


def test_the_colour_of_an_engine_is_its_commonest_precision() -> None:
    assert engine_precision(of("plan shipped").candidate("plan")) is INT8
    assert engine_precision(of("plan shipped").candidate("fp16")) is FP16


def test_layers_are_as_wide_as_their_time_and_tied_to_their_group() -> None:
    deployment = of("plan shipped")
    assert deployment.timing is not None
    times = [layer.ms for layer in deployment.timing.profiles["plan"].layers]
    marks = list(ElementTree.fromstring(layer_ribbon(deployment, indices("plan shipped")) or "").iter("rect"))
    widths = [b - a for a, b in pairwise(share(mark, "x") for mark in marks)]
    assert widths == pytest.approx([ms / sum(times) for ms in times[:-1]], abs=3e-5)
    assert [int(g) for mark in marks if (g := mark.get("data-group"))] == list(range(20))
    assert marks[0].get("class") == "reformat"
    assert marks[-1].get("class") == "other"
    assert [mark.get("class") for mark in marks].count("unfused") == 3
    assert (marks[0].get("data-tip") or "").splitlines()[1] == "reformats"


def test_a_precision_nobody_knows_has_no_precision_s_colour() -> None:
    marks = ElementTree.fromstring(layer_ribbon(of("badly realised"), indices("badly realised")) or "").iter("rect")
    unknown = [mark for mark in marks if mark.get("class") == "unknown"]
    assert len(unknown) == 4
    assert "precision hidden by TensorRT" in (unknown[0].get("data-tip") or "")


def test_no_ribbon_without_layer_times() -> None:
    assert layer_ribbon(of("launch-bound"), {}) is None
    assert layer_legend(of("launch-bound")) == []
    deployment = of("plan shipped")
    assert layer_ribbon(replace(deployment, realised=None), {}) is None


def test_the_legend_names_every_colour_once_and_adds_up() -> None:
    legend = layer_legend(of("plan shipped"))
    assert [(name, css) for name, css, _ in legend] == [
        ("groups in FP16", "fp16"),
        ("groups in INT8", "int8"),
        ("reformats", "reformat"),
        ("unfused Q/DQ", "unfused"),
        ("outside groups", "other"),
    ]
    assert sum(float(text.split()[0]) for _, _, text in legend) == pytest.approx(21.4, rel=0.01)
