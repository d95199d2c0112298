import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.report.samples import FP16, HOSTILE_ID, INT4, INT8, hostile_report, sample_report, uniform_report
from trt_mpq.report import Report, render_terminal


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
