"""The page in a real browser: figures read back after its scripts ran, no console message, nothing overflows."""

import json
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

from tests.report.browsers import browser_here
from tests.report.device_samples import DEPLOYMENTS
from tests.report.samples import FP8, FP16, INT8, hostile_report, sample_report
from tests.report.test_report_html import Page, expected_figures, read_figures
from trt_mpq.report import render_html

pytestmark = pytest.mark.browser

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
)

PROBE = """
const over = (mark) => mark.dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
const found = {};
over(document.querySelector(".ribbon [data-group='3']"));
found.tip = document.getElementById("tip").innerText;
found.lit = document.querySelectorAll(".lit").length;
const headings = [...document.querySelectorAll("#groups thead th")];
const column = headings.findIndex((heading) => heading.textContent.startsWith("modelled"));
const press = () => document.querySelectorAll("#groups thead button")[column].click();
const shown = () => [...document.querySelectorAll("#groups tbody tr")].map((row) => Number(row.dataset.group));
press(); found.rising = shown();
press(); found.falling = shown();
found.sort = headings[column].getAttribute("aria-sort");
found.width = [document.documentElement.scrollWidth, innerWidth];
const ground = () => getComputedStyle(document.body).backgroundColor;
const before = ground();
document.getElementById("theme").click();
addEventListener("hashchange", () => {
  found.themes = [before, ground()];
  document.body.dataset.probe = JSON.stringify(found);
});
"""


@pytest.fixture(scope="module")
def browser() -> str:
    return browser_here()


def _opened(browser: str, page: Path, size: str = "1280,900") -> tuple[str, list[str]]:
    """The document after the page's scripts ran, and what they wrote to the console."""
    profile = page.parent / "profile"
    command = [browser, *QUIET, f"--user-data-dir={profile}", f"--window-size={size}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def _written(folder: Path, html: str) -> Path:
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    return page


def _with_script(html: str, script: str) -> str:
    return html.replace("</body>", f"<script>{script}</script></body>")


REPORTS = {"search": sample_report(57, (FP16, FP8, INT8)), **DEPLOYMENTS}


@pytest.mark.parametrize("name", ["search", "plan shipped", "fp16 shipped", "some failed", "all failed", "100 groups"])
def test_figures_are_read_back(name: str, browser: str, tmp_path: Path) -> None:
    report = REPORTS[name]
    document, console = _opened(browser, _written(tmp_path, render_html(report)))
    assert console == []
    assert re.search(r"<html[^>]* data-ready", document), "the page's script did not run to its end"
    found = read_figures(Page(document))
    for key, value in expected_figures(report).items():
        assert found[key] == value, key


def test_pointer_sorting_theme_and_narrow_window(browser: str, tmp_path: Path) -> None:
    report = sample_report(20)
    html = re.sub(r"<meta http-equiv[^>]*>", "", render_html(report))
    document, console = _opened(browser, _written(tmp_path, _with_script(html, PROBE)), size="360,800")
    assert console == []
    (probe,) = re.findall(r'data-probe="([^"]*)"', document)
    found = json.loads(unescape(probe))
    row = report.group_rows[3]
    assert found["tip"].startswith(f"4. {row.id}\n")
    assert found["lit"] == 5, "two ribbons, two strips and one table row"
    rising = sorted(range(20), key=lambda i: report.group_rows[i].latency_ms or 0)
    assert found["rising"] == rising
    assert found["falling"] == rising[::-1]
    assert found["sort"] == "descending"
    assert found["themes"][0] != found["themes"][1]
    content, window = found["width"]
    assert content <= window, "something is wider than a narrow window"


DEVICE_PROBE = """
const found = {};
const mark = document.querySelector("#device .ribbon [data-group='3']");
mark.dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
found.tip = document.getElementById("tip").innerText;
found.lit = document.querySelectorAll(".lit").length;
found.width = [document.documentElement.scrollWidth, innerWidth];
const command = document.querySelector("#device pre.command");
found.command = command.textContent;
found.copies = document.querySelectorAll(".copyable > button.copy").length;
document.body.dataset.probe = JSON.stringify(found);
"""


@pytest.mark.parametrize("name", ["plan shipped", "hostile device"])
def test_the_device_section_in_a_narrow_window(name: str, browser: str, tmp_path: Path) -> None:
    report = DEPLOYMENTS[name]
    probe = DEVICE_PROBE.replace("'3'", "'2'") if name == "hostile device" else DEVICE_PROBE
    html = re.sub(r"<meta http-equiv[^>]*>", "", render_html(report))
    document, console = _opened(browser, _written(tmp_path, _with_script(html, probe)), size="400,800")
    assert console == []
    (answer,) = re.findall(r'data-probe="([^"]*)"', document)
    found = json.loads(unescape(answer))
    assert report.device is not None
    assert found["command"] == report.device.reproduce
    assert found["copies"] == 2, "the command of trtexec and that of the run"
    assert "µs, " in found["tip"]
    assert found["lit"] == 6, "two ribbons of the search, one of the engine, two strips and one table row"
    content, window = found["width"]
    assert content <= window, "something is wider than a narrow window"


def test_hostile_names_and_foreign_scripts_do_nothing(browser: str, tmp_path: Path) -> None:
    html = _with_script(render_html(hostile_report()), "document.documentElement.dataset.owned = 1")
    document, console = _opened(browser, _written(tmp_path, html))
    assert "data-owned" not in document
    assert "<title>owned" not in document
    assert len(console) == 1, "exactly the foreign script is reported"
    assert "Content Security Policy" in console[0]


def test_a_script_error_would_be_noticed(browser: str, tmp_path: Path) -> None:
    _, console = _opened(browser, _written(tmp_path, "<!doctype html><body><script>nonsense()</script></body>"))
    assert len(console) == 1
