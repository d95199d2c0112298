import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from tests.report.samples import HOSTILE_ID, hostile_report, sample_report
from tests.report.test_report_charts import VARIATIONS
from trt_mpq.report import Report, render_html


class Page(HTMLParser):
    """Tags, attributes, visible text and the figures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.figures: dict[str, str | None] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if name := attributes.get("data-figure"):
            self.figures[name] = attributes["value"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def expected_figures(report: Report) -> dict[str, float | None]:
    accuracy, latency, size = report.accuracy, report.latency_ms, report.size_bytes
    figures: dict[str, float | None] = {
        "accuracy.plan": accuracy.plan,
        "accuracy.target": accuracy.target,
        "latency_ms.plan": latency.plan,
        "size_bytes.plan": size.plan,
        "groups": report.groups,
        "seed": report.seed,
        **{f"plan.counts.{p}": n for p, n in report.plan.counts.items()},
        **{f"table.accuracy.{k}": getattr(accuracy, k) for k in ("fp32", "fp16", "plan")},
        **{f"table.latency_ms.{k}": getattr(latency, k) for k in ("fp32", "fp16", "plan")},
        **{f"table.size_bytes.{k}": getattr(size, k) for k in ("fp32", "fp16", "plan")},
        **{f"table.accuracy.uniform.{p}": v for p, v in accuracy.uniform.items()},
        **{f"table.latency_ms.uniform.{p}": v for p, v in latency.uniform.items()},
        **{f"table.size_bytes.uniform.{p}": v for p, v in size.uniform.items()},
    }
    return figures


def read_figures(page: Page) -> dict[str, float | None]:
    return {name: float(value) if value else None for name, value in page.figures.items()}


@pytest.mark.parametrize("name", VARIATIONS)
def test_page_holds_the_figures_of_the_report(name: str) -> None:
    report = VARIATIONS[name]
    found = read_figures(Page(render_html(report)))
    for key, value in expected_figures(report).items():
        assert found[key] == value, key


def test_page_is_self_contained() -> None:
    text = render_html(sample_report(20))
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text)
    assert [a["href"] for a in page.all("link")] == ["data:,"]
    assert not any("src" in attributes for _, attributes in page.tags)


def test_policy_admits_only_the_page_s_own_script() -> None:
    text = render_html(sample_report(2))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = Page(text).all("meta")[1]["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert policy.endswith(f"script-src 'sha256-{digest}'")


def test_hostile_names_stay_text() -> None:
    page = Page(render_html(hostile_report()))
    assert page.all("img") == []
    assert len(page.all("script")) == 1
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert HOSTILE_ID in "".join(page.texts)
    assert any(HOSTILE_ID in (a.get("data-tip") or "") for _, a in page.tags)
    assert "\x1b" not in "".join(page.texts)
    assert "\u202e" not in "".join(page.texts)


def test_commands_in_notices_are_set_as_code() -> None:
    report = replace(sample_report(2), not_done=("run `a <b>` there",), warnings=("a lone ` stays",))
    text = render_html(report)
    assert "<li>run <code>a &lt;b&gt;</code> there</li>" in text
    assert "<li>a lone ` stays</li>" in text


@pytest.mark.parametrize("source", ["modelled", "device-table"])
def test_every_latency_says_where_it_comes_from(source: str) -> None:
    report = sample_report(5)
    report = replace(report, latency_ms=replace(report.latency_ms, source=source))  # type: ignore[arg-type]
    text = "".join(Page(render_html(report)).texts).lower()
    other = {"modelled": "device-table", "device-table": "modelled"}[source]
    assert text.count(source) >= 7
    assert other not in text


def _palettes() -> list[dict[str, str]]:
    style = files("trt_mpq.report").joinpath("style.css").read_text(encoding="utf-8")
    blocks = re.findall(r"color-scheme: (?:light|dark);([^}]*)}", style)
    return [dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", block)) for block in blocks]


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_both_themes_have_enough_contrast() -> None:
    """WCAG 2.2: 3:1 for graphics, 4.5:1 for text."""
    light, dark, toggled = _palettes()
    assert dark == toggled, "the dark palette is written twice and must stay one"
    for palette in (light, dark):
        for name in ("fp32", "fp16", "fp8", "int8", "int4"):
            assert _contrast(palette[name], palette["page"]) >= 3, name
        for name in ("ink", "soft", "warn"):
            assert _contrast(palette[name], palette["page"]) >= 4.5, name
