"""The page in a browser as people use it: axe finds nothing in any of its looks, and what can be pressed works."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report.browsers import LOOKS, RULES, assert_axe_finds_nothing, opened_page
from tests.report.device_samples import DEPLOYMENTS
from tests.report.samples import FP8, FP16, INT8, sample_report, sample_tensors
from trt_mpq.report import Report, render_html
from trt_mpq.report.data import EnergyFigures
from trt_mpq.types.target import LatencyError

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("playwright.sync_api", reason="the library `playwright` is not installed")
axe = pytest.importorskip("axe_playwright_python", reason="the library `axe-playwright-python` is not installed")


def complete(report: Report) -> Report:
    """With what only a run knows: tensors, the error of every group, the precisions of every plan that was tried."""
    rows = report.group_rows
    errors: dict[str, float | None] = {row.id: 30.0 + row.index for row in rows[1:-1]} | {rows[0].id: None}
    plans = tuple(
        replace(step, precisions=(FP16,) * len(rows), size_bytes=1000 + number, energy_mj=2 * step.latency_ms)
        for number, step in enumerate(report.search.path)
    )
    error = LatencyError(0.19, 0.08, 12, "l4 and l40s")
    search, ms = replace(report.search, path=plans), replace(report.latency_ms, error=error)
    energy = EnergyFigures(ms.fp32, ms.fp16, ms.plan, ms.uniform)
    return replace(
        report, tensors=sample_tensors(report), layer_errors=errors, search=search, latency_ms=ms, energy_mj=energy
    )


REPORTS = {
    "search": complete(sample_report(40, (FP16, FP8, INT8))),
    **{name: complete(DEPLOYMENTS[name]) for name in ("plan shipped", "all failed")},
}


def opened(chromium: Any, report: Report, folder: Path, **look: Any) -> Any:
    """The page of `report`, which a message on the console fails."""
    page, messages = opened_page(chromium, render_html(report), folder, **look)
    assert messages == []
    return page


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", REPORTS)
def test_axe_finds_nothing(name: str, look: str, chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, REPORTS[name], tmp_path, bypass_csp=True, **LOOKS[look])
    assert_axe_finds_nothing(page, look)


def test_plans_are_drawn_by_any_two_of_score_and_costs_and_chosen_there(chromium: Any, tmp_path: Path) -> None:
    report = REPORTS["search"]
    page = opened(chromium, report, tmp_path)
    shown = lambda: page.locator("[data-axis]:visible").evaluate_all("(all) => all.map((one) => one.dataset.axis)")  # noqa: E731
    assert shown() == ["score against latency"]
    pairs = ["energy against latency", "size against latency", "size against energy"]
    for chart in ("score against energy", *pairs, "score against size"):
        page.select_option("#axis", chart)
        assert shown() == [chart]
    step = next(step for step in report.search.path if step.plan != report.plan.digest)
    page.locator(f"[data-axis='size against energy'] [data-plan='{step.plan}']").first.dispatch_event("click")
    assert page.locator("#choice select").input_value() == step.plan
    assert "µJ" in page.locator("#choice .figures").inner_text()


def test_axe_would_find_something(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, REPORTS["search"], tmp_path, bypass_csp=True)
    page.evaluate("document.body.append(Object.assign(document.createElement('img'), {src: 'data:,'}))")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("(rules) => axe.run(document, {runOnly: rules})", RULES)
    assert "image-alt" in [one["id"] for one in found["violations"]]


def test_a_plan_is_chosen_on_the_chart_or_by_the_keyboard(chromium: Any, tmp_path: Path) -> None:
    report = REPORTS["search"]
    page = opened(chromium, report, tmp_path)
    chosen = page.locator("#choice")
    assert "typed.onnx of the run folder holds it" in chosen.inner_text()
    assert page.locator("#choice .strip span").count() == report.groups
    step = next(step for step in report.search.path if step.plan != report.plan.digest)
    page.locator(f"[data-plan='{step.plan}']").first.dispatch_event("click")
    assert page.locator("#choice pre").inner_text() == f"trt-mpq emit RUN_DIR --plan {step.plan}"
    quantized = sum(row.precision.quantized for row in report.group_rows)
    assert f"in {quantized} of {report.groups} groups" in chosen.inner_text()
    assert page.locator("#choice .strip .fp16").count() == report.groups
    page.locator("#choice select").press("End")
    page.locator("#choice select").select_option(report.plan.digest)
    assert page.locator("#choice pre").count() == 0


def test_groups_are_found_and_written_as_csv(chromium: Any, tmp_path: Path) -> None:
    report = REPORTS["search"]
    page = opened(chromium, report, tmp_path)
    tools = page.locator(".tools[data-table=groups]")
    tools.locator("select").select_option("int8")
    wanted = [row for row in report.group_rows if row.precision is INT8]
    assert tools.locator("output").inner_text() == f"{len(wanted)} of {report.groups}"
    tools.locator("input").fill(wanted[0].id)
    shown = page.locator("#groups tbody tr:not([hidden])")
    assert wanted[0].id in [row.locator(".id").inner_text() for row in shown.all()]
    tools.locator("input").fill("nothing of the kind")
    assert shown.count() == 0
    tools.locator("input").fill("")
    tools.locator("select").select_option("")
    with page.expect_download() as download:
        tools.locator(".csv").click()
    rows = list(csv.reader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 1 + report.groups
    assert [row[1] for row in rows[1:]] == [row.id for row in report.group_rows]
    assert {len(row) for row in rows} == {len(rows[0])}


def test_charts_are_written_as_pictures(chromium: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    page = opened(chromium, REPORTS["search"], tmp_path)
    button = page.get_by_role("button", name="The search as PNG")
    with page.expect_download() as download:
        button.dispatch_event("click")
    assert download.value.suggested_filename == "the-search.png"
    picture = image.open(download.value.path()).convert("RGB")
    width = page.locator("section:has(> #choice) .chart svg").first.bounding_box()["width"]
    assert abs(picture.width - 2 * (width + 144)) <= 4
    assert len(picture.getcolors(1 << 20)) > 50, "it is no empty sheet"


def test_wide_tables_say_so_on_a_phone(chromium: Any, tmp_path: Path) -> None:
    narrow = opened(chromium, REPORTS["search"], tmp_path, **LOOKS["phone"])
    assert narrow.locator(".scroll.wide:has(#groups)").count() == 1
    broad = opened(chromium, REPORTS["search"], tmp_path, viewport={"width": 1500, "height": 900})
    assert broad.locator(".scroll.wide:has(#tensors)").count() == 0
