"""What is left to do on a device, as a reader gets it."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console

from tests.report.samples import sample_report
from trt_mpq.report.data import report_from_json, report_to_json
from trt_mpq.report.html import render_html
from trt_mpq.report.terminal import render_terminal
from trt_mpq.types.route import Route

COMMAND = "trtexec --onnx=typed.onnx --saveEngine=model.plan --minShapes=x:1x3 --optShapes=x:8x3 --maxShapes=x:32x3"
ROUTES = (
    Route("TensorRT 10.3 (JetPack 6.1 and 6.2)", "typed.onnx", COMMAND, note="if it refuses the file, build weak.onnx"),
    Route("TensorRT 8.6 (JetPack 6.0)", "weak.onnx", refusal="FP8 needs TensorRT 10.0 or later"),
    Route("TensorRT 8.6", "weak.onnx", "trtexec " + "x" * 600),
)
REPORT = replace(sample_report(5), routes=ROUTES)


def test_a_terminal_has_commands_that_can_be_copied() -> None:
    console = Console(file=StringIO(), width=80, highlight=False)
    render_terminal(REPORT, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert COMMAND in lines, "whole, on a line of its own"
    assert "not possible: FP8 needs TensorRT 10.0 or later" in lines
    assert "the command is in report.html and report.json" in lines
    assert any("&&&& PASSED" in line for line in lines)


def test_the_page_has_every_command() -> None:
    page = render_html(REPORT)
    assert "Left to do on the device" in page
    assert page.count('<pre class="command"') >= 2
    assert "--maxShapes=x:32x3" in page
    assert "Not possible: FP8 needs TensorRT 10.0 or later." in page
    assert "ORT_ENABLE_BASIC" in page


def test_scripts_read_them_too() -> None:
    assert report_from_json(report_to_json(REPORT)).routes == ROUTES
