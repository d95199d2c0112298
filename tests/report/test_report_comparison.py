"""Devices side by side: the value, the page, the table; axe looks at the page as at the report."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.report.browsers import LOOKS, assert_axe_finds_nothing, opened_page
from tests.report.samples import FP8, FP16, INT8, hostile_report, sample_report
from tests.report.test_report_html import Page
from trt_mpq.artifacts.files import from_json, to_json
from trt_mpq.report import Report
from trt_mpq.report.comparison import DeviceComparison, compared
from trt_mpq.report.comparison_page import comparison_lead, print_comparison, render_comparison
from trt_mpq.types.target import LatencyError


def on(report: Report, device: str, error: float) -> Report:
    found = LatencyError(error, error / 4, 12, device)
    return replace(report, latency_ms=replace(report.latency_ms, device=device, error=found))


@pytest.fixture(scope="module")
def comparison() -> DeviceComparison:
    wide, narrow = (sample_report(40, (FP16, FP8, INT8), wide_share=share) for share in (0.3, 0.1))
    smaller = replace(narrow, group_rows=narrow.group_rows[:-1])
    reports = {"l4": on(wide, "l4", 0.26), "orin-agx": on(narrow, "orin-agx", 0.21), "odd": on(smaller, "odd", 0.1)}
    return compared(reports, "trt-mpq build net.onnx --device l4,orin-agx,odd", "2026-11-29T12:00:00+00:00")


def test_groups_are_told_apart_by_what_each_device_runs_them_in(comparison: DeviceComparison) -> None:
    rows = sample_report(40, (FP16, FP8, INT8), wide_share=0.3).group_rows
    others = sample_report(40, (FP16, FP8, INT8), wide_share=0.1).group_rows
    assert [group.id for group in comparison.groups] == [row.id for row in rows]
    pairs = [(row.precision, other.precision) for row, other in zip(rows, others, strict=True)]
    assert [group.precisions[:2] for group in comparison.groups] == pairs
    assert comparison.groups[-1].precisions[2] is None
    differing = {id for id, pair in zip((row.id for row in rows), pairs, strict=True) if pair[0] is not pair[1]}
    assert {group.id for group in comparison.differing} == differing | {rows[-1].id}
    assert from_json(to_json(comparison, DeviceComparison), DeviceComparison) == comparison


def test_the_lead_says_in_how_far_plans_differ(comparison: DeviceComparison) -> None:
    same = 40 - len(comparison.differing)
    assert comparison_lead(comparison) == (
        f"2 plans for 3 devices: {same} of 40 groups run in the same precision on all of them, {40 - same} differ."
    )
    equal = compared({name: sample_report(3) for name in ("l4", "t4")}, "x", "2026-11-29T12:00:00+00:00")
    assert comparison_lead(equal) == "One plan is the best that was found for all 2 devices."
    assert "In no group." in render_comparison(equal)


def test_the_page_has_every_figure_and_links_to_every_report(comparison: DeviceComparison) -> None:
    page = Page(render_comparison(comparison))
    assert [link["href"] for link in page.all("a")] == [f"{d}/report.html" for d in ("l4", "orin-agx", "odd")]
    figures = {one["data-figure"]: one["value"] for one in page.all("data")}
    for one in comparison.devices:
        assert figures[f"latency_ms.{one.folder}"] == str(one.latency_ms.plan)
        assert figures[f"accuracy.{one.folder}"] == str(one.accuracy.plan)
        assert figures[f"size_bytes.{one.folder}"] == str(one.size_bytes.plan)
    rows = [attributes for attributes in page.all("tr") if "data-group" in attributes]
    assert len(rows) == len(comparison.differing)
    assert "±\u00a026\u00a0%" in "".join(page.texts)


def test_hostile_names_stay_text() -> None:
    report = hostile_report()
    page = Page(render_comparison(compared({"l4": report, "t4": sample_report(2)}, "<b>", report.created)))
    assert page.all("img") == []
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)


def test_the_table_fits_eighty_columns(comparison: DeviceComparison) -> None:
    text = StringIO()
    print_comparison(comparison, Console(file=text, width=80, highlight=False))
    lines = text.getvalue().splitlines()
    assert lines[0] == "resnet20.onnx on 3 devices, batch 1, latency modelled"
    table = lines[1 : lines.index("")]
    assert all(len(line) <= 80 for line in table)
    assert "…" not in text.getvalue()
    assert len(table) == 2 + 3, "a line for each device"
    assert "engine for orin-agx: none was built" in text.getvalue()


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_the_comparison(
    look: str, chromium: Any, comparison: DeviceComparison, tmp_path: Path
) -> None:
    page, messages = opened_page(chromium, render_comparison(comparison), tmp_path, bypass_csp=True, **LOOKS[look])
    assert_axe_finds_nothing(page, look)
    assert messages == []
