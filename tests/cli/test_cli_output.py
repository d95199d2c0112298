"""What a person and a script see of a run."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from trt_mpq.cli.output import Output
from trt_mpq.cli.tables import evaluation_text
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Score

PLAN = PrecisionPlan.of({"stem": Precision.FP16, "block": Precision.INT8, "head": Precision.INT8})
TRIED = Evaluation(PLAN, Score(0.91416, 0.004, 5000), 0.0309, True, "bisection")


def work(output: Output) -> None:
    output.note("a [bold]sentence[/bold] with \x1b[31mcontrol codes")
    with output.stage("Searching") as progress:
        progress(1, 2)
        output.evaluated(TRIED, "top1", 0.9)
        output.evaluated(TRIED, "top1", 0.9)
    output.result(PLAN, PrecisionPlan, lambda plan: f"table of {len(plan.assignments)}")


def test_a_plan_is_one_line() -> None:
    assert evaluation_text(TRIED, "top1", 0.9) == "2 int8, 1 fp16 → 91.42 % ✓ 0.0309 ms"


def test_a_plan_that_was_decided_early_says_so() -> None:
    early = replace(TRIED, complete=False)
    assert evaluation_text(early, "top1", 0.9) == "2 int8, 1 fp16 → ~91.42 % (after 5,000 samples) ✓ 0.0309 ms"


def test_without_a_terminal_everything_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    work(Output())
    written = capsys.readouterr()
    assert written.out == "table of 3\n"
    assert "\x1b" not in written.err
    lines = written.err.splitlines()
    assert lines[:-1] == [
        "note: a [bold]sentence[/bold] with �[31mcontrol codes",
        "Searching ...",
        "plan 1: 2 int8, 1 fp16 → 91.42 % ✓ 0.0309 ms",
        "plan 2: 2 int8, 1 fp16 → 91.42 % ✓ 0.0309 ms",
    ]
    assert re.match(r"Searching: \d+\.\d s", lines[-1])


def test_long_lines_stay_whole_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Output().note("word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    work(Output(quiet=True))
    assert capsys.readouterr() == ("", "")


def test_json_alone_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    work(Output(json=True))
    written = capsys.readouterr()
    assert written.out.startswith("{")
    assert '"int8"' in written.out
    assert "plan 1" in written.err


def test_quiet_json_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    work(Output(json=True, quiet=True))
    written = capsys.readouterr()
    assert written.out.startswith("{")
    assert written.err == ""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_a_stage_is_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    work(Output())
    shown = capsys.readouterr().err
    assert "50%" in shown
    assert "plan 2: 2 int8, 1 fp16" in shown
    assert re.search(r"Searching: \d+\.\d s", shown)
    assert shown.count("Searching ...") == 0


@pytest.mark.usefixtures("terminal")
def test_stages_may_nest_and_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    with output.stage("outer"), output.stage("inner") as progress:
        progress(3, 4)
    with pytest.raises(ValueError, match="broken"), output.stage("broken"):
        raise ValueError("broken")
    with output.stage("last"):
        pass
    shown = capsys.readouterr().err
    for line in (r"inner: \d+\.\d s", r"outer: \d+\.\d s", r"last: \d+\.\d s"):
        assert re.search(line, shown)
    assert "broken: " not in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0, "the cursor stays hidden"
