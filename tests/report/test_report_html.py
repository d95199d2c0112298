import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from tests.report.device_samples import DEPLOYMENTS
from tests.report.samples import HOSTILE_ID, compared_report, hostile_report, sample_report
from tests.report.test_report_charts import VARIATIONS
from trt_mpq.report import Report, render_html
from trt_mpq.types.engine import Deployment


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
        "accuracy.target": accuracy.target,
        "groups": report.groups,
        "seed": report.seed,
        **_expected_tiles(report),
        **{f"table.accuracy.{k}": getattr(accuracy, k) for k in ("fp32", "fp16", "plan")},
        **{f"table.latency_ms.{k}": getattr(latency, k) for k in ("fp32", "fp16", "plan")},
        **{f"table.size_bytes.{k}": getattr(size, k) for k in ("fp32", "fp16", "plan")},
        **{f"table.accuracy.uniform.{p}": v for p, v in accuracy.uniform.items()},
        **{f"table.latency_ms.uniform.{p}": v for p, v in latency.uniform.items()},
        **{f"table.size_bytes.uniform.{p}": v for p, v in size.uniform.items()},
    }
    if report.device is not None:
        figures |= _expected_of_device(report.device)
    return figures


def _expected_tiles(report: Report) -> dict[str, float | None]:
    """The figures of the search, which stand in the verdict only where nothing was timed."""
    device = report.device
    if device is not None and device.timing is not None and device.decision.shipped is not None:
        return {}
    return {
        "accuracy.plan": report.accuracy.plan,
        "latency_ms.plan": report.latency_ms.plan,
        "size_bytes.plan": report.size_bytes.plan,
        **{f"plan.counts.{p}": n for p, n in report.plan.counts.items()},
    }


def _expected_of_device(device: Deployment) -> dict[str, float | None]:
    timing, shipped = device.timing, device.shipped
    profiles = timing.profiles if timing else {}
    figures: dict[str, float | None] = {}
    for i, candidate in enumerate(device.candidates):
        profile = profiles.get(candidate.name)
        figures[f"device.{i}.median"] = profile.gpu_compute.median if profile else None
        if candidate.build.built:
            figures[f"device.{i}.p99"] = profile.gpu_compute.p99 if profile else None
    for i, output in enumerate(device.comparison.outputs if device.comparison else ()):
        figures[f"device.output.{i}.sqnr_db"] = output.sqnr_db
    if shipped is not None and shipped.name in profiles:
        figures["device.shipped.median"] = profiles[shipped.name].gpu_compute.median
        figures["device.shipped.size"] = shipped.build.size_bytes
        figures["device.shipped.narrow"] = sum(p.quantized for _, p in shipped.plan.assignments)
        figures |= {f"device.shipped.counts.{p}": n for p, n in shipped.plan.counts().items()}
        if device.score is not None:
            figures["device.score"] = device.score.value
        if device.realised is not None:
            figures["device.agreeing"] = device.realised.agreeing
    return figures


def read_figures(page: Page) -> dict[str, float | None]:
    return {name: float(value) if value else None for name, value in page.figures.items()}


@pytest.mark.parametrize("name", [*VARIATIONS, *DEPLOYMENTS])
def test_page_holds_the_figures_of_the_report(name: str) -> None:
    report = {**VARIATIONS, **DEPLOYMENTS}[name]
    found = read_figures(Page(render_html(report)))
    if report.device is None:
        assert not [key for key in found if key.startswith("device")]
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


@pytest.mark.parametrize("report", [hostile_report(), DEPLOYMENTS["hostile device"]], ids=["search", "device"])
def test_hostile_names_stay_text(report: Report) -> None:
    page = Page(render_html(report))
    assert page.all("img") == []
    assert [script.get("type") for script in page.all("script")] == ["application/json", None], "data, and our own"
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


def test_a_search_s_latency_is_never_the_verdict_where_engines_were_timed() -> None:
    text = render_html(DEPLOYMENTS["fp16 shipped"])
    tiles = text[text.index('<dl class="tiles">') : text.index("</dl>")]
    assert "GPU time, measured" in tiles
    assert "odelled" not in tiles
    assert "what the search went by, not what engines take" in text
    assert text.index('class="lead">Shipped: FP16') < text.index("The search chose:")
    assert text.index('aria-label="Verdict"') < text.index('id="device"') < text.index('class="notices"')


def test_every_group_shows_what_the_engine_runs_it_in() -> None:
    text = render_html(DEPLOYMENTS["badly realised"])
    table = text[text.index('<table id="groups">') :]
    table = table[: table.index("</table>")]
    assert table.count("<em>asked: INT8</em>") == 3
    assert table.count(">unknown</td>") == 4
    assert "engine, µs" in table
    assert "engine, µs" not in render_html(sample_report(3))


def test_reference_outputs_stand_beside_those_of_the_same_plan_only() -> None:
    assert "ONNX Runtime running the same plan" in render_html(DEPLOYMENTS["plan shipped"])
    assert "ONNX Runtime running the same plan" not in render_html(DEPLOYMENTS["fp16 shipped"])


def test_what_was_left_out_and_how_to_repeat_it() -> None:
    text = render_html(DEPLOYMENTS["some failed"])
    assert text.count("option without effect: dla_core: this GPU has no DLA") == 1
    assert text.count("<li>no evaluation data here") == 1
    assert "IBuilder::buildSerializedNetwork" in text
    command = DEPLOYMENTS["some failed"].device
    assert command is not None
    (block,) = re.findall(r'<pre class="command"[^>]*>(<span class="word">trtexec.*?)</pre>', text)
    assert "".join(Page(block).texts) == command.reproduce, "what is copied is the command"


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
        for name in ("fp32", "fp16", "bf16", "fp8", "int8", "int4"):
            assert _contrast(palette[name], palette["page"]) >= 3, name
        for name in ("ink", "soft", "warn"):
            assert _contrast(palette[name], palette["page"]) >= 4.5, name


def test_agreement_of_metrics_is_a_matrix_per_precision() -> None:
    text = " ".join("".join(Page(render_html(compared_report())).texts).split())
    assert "noisetask-losshessian" in text.replace(" ", "")
    assert "at FP8" in text
    for value in ("1.00", "0.25", "-0.38", "0.50", "0.12"):
        assert value in text
    assert "Agreement of the sensitivity metrics" not in render_html(sample_report())


def test_data_for_the_script_cannot_end_it() -> None:
    report = hostile_report()
    step = replace(report.search.path[0], note="</script><script>alert(1)</script>&amp;")
    report = replace(report, search=replace(report.search, path=(step, *report.search.path[1:])))
    (data,) = re.findall(r'<script type="application/json" id="plans">(.*?)</script>', render_html(report), re.DOTALL)
    assert "<" not in data
    plans = json.loads(data)["plans"]
    assert step.note in plans[0]["title"]
    assert [plan["digest"] for plan in plans if plan["delivered"]] == [report.plan.digest]
