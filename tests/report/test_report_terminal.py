import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.report.device_samples import DEPLOYMENTS, hostile_device
from tests.report.samples import (
    FP16,
    HOSTILE_ID,
    INT4,
    INT8,
    compared_report,
    hostile_report,
    sample_report,
    uniform_report,
)
from trt_mpq.report import Report, render_terminal
from trt_mpq.report.terminal import device_section
from trt_mpq.report.wording import MISSING


def _printed(report: Report, details: bool = False, **options: object) -> str:
    out = io.StringIO()
    settings = {"width": 80, "color_system": None, **options}
    render_terminal(report, Console(file=out, **settings), details=details)  # type: ignore[arg-type]
    return out.getvalue()


def test_says_the_figures_and_fits_80_columns() -> None:
    text = _printed(sample_report(20), details=True)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for words in ("14 of 20 groups in INT8", "modelled latency 0.0235 ms", "required 90.68 %", "missed", "Warnings"):
        assert words in text
    assert "\x1b" not in text


def test_comparison_lines_hold_each_variant() -> None:
    text = _printed(sample_report(20))
    line = next(line for line in text.splitlines() if line.startswith("uniform INT8"))
    assert " ".join(line.split()) == "uniform INT8 90.13 % 98.40 % missed 0.0195 ms \N{MINUS SIGN}45 % 1.43 MB"


def test_groups_are_listed_only_on_request() -> None:
    report = sample_report(5)
    assert "/layer1/layer1.0/conv1/Conv" not in _printed(report)
    assert "/layer1/layer1.0/conv1/Conv" in _printed(report, details=True)


def test_trivial_and_study_results_are_said() -> None:
    assert "Uniform INT8 already meets the target" in _printed(uniform_report(20))
    assert "For study only" in _printed(sample_report(12, (FP16, INT8, INT4)))


def test_names_from_the_model_are_text_not_markup_or_escapes() -> None:
    text = _printed(hostile_report(), details=True, width=200, force_terminal=True, color_system="truecolor")
    assert HOSTILE_ID in text
    assert "[bold]markup[/bold]" in text
    assert "\x1b[31m" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_any_width_and_missing_numbers(width: int) -> None:
    report = sample_report(3)
    accuracy = replace(report.accuracy, fp16=None, fp32=None, plan_stderr=None, uniform={})
    latency = replace(report.latency_ms, fp16=None, fp32=None, uniform={})
    bare = replace(report, accuracy=accuracy, latency_ms=latency, refinement=(), warnings=(), not_done=())
    assert "plan" in _printed(bare, details=True, width=width)


def _section(name: str) -> list[str]:
    out = io.StringIO()
    deployment = DEPLOYMENTS[name].device
    assert deployment is not None
    Console(file=out, width=80, color_system=None).print(device_section(deployment))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("name", sorted(set(DEPLOYMENTS) - {"hostile device"}))
def test_what_the_device_said_takes_15_lines_of_80_columns(name: str) -> None:
    lines = _section(name)
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 80
    rule = next(i for i, line in enumerate(lines) if line.startswith("───"))
    deployment = DEPLOYMENTS[name].device
    assert deployment is not None
    table = lines[rule - 1 : rule + 1 + len(deployment.candidates)]
    assert "…" not in "".join(table), "a figure is cut"
    assert [line.removeprefix("→ ").split()[0] for line in table[2:3]] == ["plan"] or name == "nothing accurate"


def test_the_shipped_engine_is_marked_and_its_rivals_are_told() -> None:
    lines = [" ".join(line.split()) for line in _section("fp16 shipped")]
    assert f"→ FP16 0.0311 0.0323 {MISSING} 1.24 MB not scored" in lines
    minus = "\N{MINUS SIGN}"
    assert f"plan 0.0309 0.0321 {minus}0.6 ({minus}1.2 to 0.0) 1.24 MB met" in lines
    assert sum(line.startswith("→ ") for line in lines) == 1


def test_failed_builds_are_told_with_their_reason() -> None:
    lines = _section("some failed")
    assert any(line.startswith("candidate 3") and line.endswith("timed out") for line in lines)
    assert "candidate 2 crashed: the build process died of signal 11 (segmentation fault)" in lines
    assert lines[-1] == "and 6 more remarks, all in report.json and report.html"


def test_the_report_leads_with_what_was_measured() -> None:
    text = _printed(DEPLOYMENTS["fp16 shipped"])
    lines = text.splitlines()
    assert lines[1].startswith("Shipped: FP16, 0.0311 ms measured; the plan is not faster by enough")
    assert text.index("Shipped: FP16") < text.index("searched plan: 14 of 20 groups in INT8")
    assert text.count("Shipped: FP16") == 1
    assert "runs every" in text


def test_notes_of_the_device_are_printed_once() -> None:
    report = DEPLOYMENTS["some failed"]
    assert report.device is not None
    few = replace(report, device=replace(report.device, candidates=report.device.candidates[:2]))
    assert _printed(few, width=200).count("no evaluation data here") == 1


def test_names_from_the_device_are_text_not_markup_or_escapes() -> None:
    text = _printed(hostile_device(), width=200, force_terminal=True, color_system="truecolor")
    assert HOSTILE_ID in text
    assert "\x1b[31m" not in text


@pytest.mark.parametrize("name", DEPLOYMENTS)
@pytest.mark.parametrize("width", [20, 40, 200])
def test_devices_at_any_width(name: str, width: int) -> None:
    assert "hipped" in _printed(DEPLOYMENTS[name], width=width)


def test_agreement_with_task_loss_is_a_line_per_metric() -> None:
    rows = [line.split() for line in _printed(compared_report()).splitlines()]
    assert ["FP8", "INT8"] in rows
    assert ["noise", "0.25", "-0.38"] in rows
    assert ["hessian", MISSING, "0.12"] in rows
    assert "Kendall" not in _printed(sample_report())
