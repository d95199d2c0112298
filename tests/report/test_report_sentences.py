"""The sentences of a report are true of the figures beside them."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.report.samples import FP16, INT8, noisy_report, sample_report
from trt_mpq.evaluate.compare import sqnr_db
from trt_mpq.evaluate.interval import Holdout
from trt_mpq.evaluate.metrics.fidelity import FIDELITY
from trt_mpq.evaluate.score_scale import MISSING, score_scale
from trt_mpq.report import Report, verdict, wording
from trt_mpq.report.html import render_html
from trt_mpq.report.search_chart import search_chart
from trt_mpq.report.terminal import render_terminal
from trt_mpq.types import Precision, Score

FRACTIONS = st.floats(0.001, 1.0)


def shown(report: Report) -> str:
    console = Console(file=StringIO(), width=120, highlight=False)
    render_terminal(report, console, details=True)
    return console.file.getvalue()  # type: ignore[attr-defined]


def unquantized(report: Report, uniform: float, latency_ms: float) -> Report:
    """The report of a plan of FP16 alone, with a uniform INT8 plan beside it."""
    rows = tuple(replace(row, precision=FP16) for row in report.group_rows)
    accuracy = replace(report.accuracy, plan=0.916, fp16=0.916, uniform={INT8: uniform})
    latency = replace(report.latency_ms, fp32=0.05, plan=0.03, fp16=0.03, uniform={INT8: latency_ms})
    return replace(
        report, accuracy=accuracy, latency_ms=latency, group_rows=rows, search=replace(report.search, path=()),
        plan=replace(report.plan, counts={FP16: report.groups}),
    )  # fmt: skip


def test_nothing_is_said_not_to_meet_the_target_that_meets_it() -> None:
    report = unquantized(sample_report(5), 0.915, 0.031)
    assert verdict.remarks(report) == ("Uniform INT8 meets the target, but is not faster than FP16 (modelled).",)
    missed = unquantized(sample_report(5), 0.5, 0.01)
    assert verdict.remarks(missed) == ("Nothing narrower than FP16 was found to meet the target.",)


def test_mixed_plans_that_meet_the_target_and_are_not_faster_are_said() -> None:
    report = unquantized(sample_report(5), 0.5, 0.01)
    step = replace(sample_report(5).search.path[-1], counts={FP16: 3, INT8: 2}, feasible=True)
    report = replace(report, search=replace(report.search, path=(step, step)))
    said = "2 of the plans tried in 8 bit meet the target, but are not faster than FP16 (modelled)."
    assert verdict.remarks(report) == (said,)


def test_a_model_that_is_faster_in_fp32_is_said() -> None:
    report = sample_report(20)
    assert not [text for text in verdict.remarks(report) if "faster than any plan" in text]
    report = replace(report, latency_ms=replace(report.latency_ms, fp32=report.latency_ms.plan / 2))
    assert [text for text in verdict.remarks(report) if "in FP32, is faster than any plan" in text]


@given(FRACTIONS, FRACTIONS)
def test_a_score_that_misses_never_reads_like_the_target(score: float, target: float) -> None:
    scale = score_scale("top1", [score], target)
    number, limit = (float(scale.text(value).removesuffix(" %")) for value in (score, target))
    if abs(score - target) > 1e-11:
        assert (number < limit) is (score < target)


@given(FRACTIONS, FRACTIONS)
def test_a_share_that_misses_never_reads_like_one_that_meets(plan: float, share: float) -> None:
    report = sample_report(5)
    accuracy = replace(report.accuracy, fp32=1.0, target=share, plan=plan, fp16=share, uniform={})
    missed, met = (wording.share_text(value, accuracy) for value in (plan, share))
    if abs(plan - share) > 1e-11:
        assert missed != met


@pytest.mark.parametrize("decibel", [3.0, 10.0, 20.0, 38.4, 60.0])
def test_sqnr_is_told_in_decibels(decibel: float) -> None:
    """Against the definition: ten times the logarithm of signal over noise."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((1, 4096))
    noise = rng.standard_normal((1, 4096))
    noise *= np.sqrt(np.sum(signal**2) / np.sum(noise**2)) * 10 ** (-decibel / 20)
    [score] = FIDELITY["sqnr"](signal + noise, signal)
    assert score_scale("sqnr", [score]).text(score) == f"{decibel:.1f} dB"
    assert sqnr_db(signal, signal + noise) == pytest.approx(decibel)


def test_a_run_judged_by_sqnr_has_no_per_cent_of_it() -> None:
    report = noisy_report()
    text, page = shown(report), render_html(report)
    assert "sqnr 21.7 dB (required 20.0 dB)" in text
    assert "of FP32" not in text
    assert re.search(r"uniform INT8 +17.0 dB +missed", text)
    assert re.search(r"FP32 +bit-equal +met", text)
    assert "sqnr 21.7 dB against FP32" in verdict.searched(report)
    assert "20.0\N{NO-BREAK SPACE}dB" in page
    assert ">of FP32<" not in page
    assert "+3.0\N{NO-BREAK SPACE}dB" in page, "what a refinement gains"
    assert not re.search(r"9\d\.\d\d\N{NO-BREAK SPACE}%", page)
    assert "required 20.0 dB" in search_chart(report)
    assert "99" not in re.sub(r"[\d.]+%", "", search_chart(report)).partition("required")[0]


@given(st.floats(1.5, 5000.0))
def test_a_perplexity_is_told_as_itself_and_a_better_one_stands_higher(perplexity: float) -> None:
    scale = score_scale("perplexity", [1 / perplexity])
    assert float(scale.text(1 / perplexity)) == pytest.approx(perplexity, rel=1e-3)
    assert scale.unit.height(1 / perplexity) > scale.unit.height(1 / (1.1 * perplexity))
    assert scale.unit.number_at(scale.unit.height(1 / perplexity)) == pytest.approx(perplexity)
    error = float(scale.spread(1 / perplexity, 0.01 / perplexity))
    assert error == pytest.approx(0.01 * perplexity, rel=1e-3), "1 % of the one is 1 % of the other"


def test_a_run_judged_by_perplexity_shows_no_reciprocals() -> None:
    report = sample_report()
    accuracy = replace(
        report.accuracy,
        metric="perplexity", fp32=1 / 7.301, fp16=1 / 7.302, plan=1 / 7.318, target=0.99 / 7.301, plan_stderr=0.0,
        uniform=dict.fromkeys(report.accuracy.uniform, 1 / 9.5),
    )  # fmt: skip
    steps = tuple(replace(step, score=1 / (7.4 + number)) for number, step in enumerate(report.search.path))
    report = replace(report, accuracy=accuracy, search=replace(report.search, path=steps))
    assert "perplexity 7.318 (FP32 7.301, required 7.375" in shown(report)
    chart = search_chart(report)
    assert "required 7.375" in chart
    assert "\N{MINUS SIGN}7" not in chart, "heights are no numbers to show"


def test_a_change_of_equal_outputs_has_no_decibels() -> None:
    scale = score_scale("sqnr", [0.99, 1.0])
    assert scale.change(0.99, 1.0) == MISSING
    assert scale.text(1.0) == "bit-equal"
    assert scale.spread(1.0, 0.001).endswith(" dB")


def test_a_loss_and_its_reach_have_one_unit() -> None:
    noise, points = score_scale("sqnr", [0.99]), score_scale("top1", [0.9])
    assert f"{noise.bare_loss(3e-3)} ± {noise.loss(2e-3)}" == "0.003 ± 0.002 of the signal's power"
    assert f"{points.bare_loss(-2e-3)} ± {points.loss(4e-3)}" == "-0.2 ± 0.4 points"


def test_a_file_is_compared_with_its_plan_in_the_unit_of_the_scores() -> None:
    report = sample_report()
    noise = replace(
        report.accuracy, metric="sqnr", fp32=1.0, fp16=1 - 1e-6, plan=1 - 9e-5, target=1 - 1.3e-4, uniform={},
        file=1 - 1e-4,
    )  # fmt: skip
    assert wording.file_text(noise).endswith("scores 40.0 dB where the plan scores 40.5 dB")
    share = replace(report.accuracy, plan=0.902, file=0.9)
    assert wording.file_text(share).endswith("scores 90.00 % where the plan scores 90.20 %")


def test_latencies_of_one_table_share_one_unit() -> None:
    report = sample_report(20)
    small = replace(report.latency_ms, fp32=0.0021, fp16=0.0013, plan=0.0009, uniform={INT8: 0.0007})
    rows = [
        line for line in shown(replace(report, latency_ms=small)).splitlines() if re.match(r"(FP|uniform|plan)", line)
    ]
    assert len(rows) == 4
    assert all(" ms " in row and "µs" not in row for row in rows)


def test_what_groups_cost_is_no_share_of_the_gain() -> None:
    """Moves overlap in the conversions that they pay for, so that nothing may be said to be saved by each."""
    assert "saves" not in shown(sample_report(20))


def test_the_size_is_called_what_it_is() -> None:
    report = sample_report(20)
    size = replace(report.size_bytes, plan=270_372, fp32=1_076_136, file=309_316)
    report = replace(report, size_bytes=size)
    assert verdict.headline(report)[-1] == "weights 0.270 MB (FP32 1.08 MB), typed.onnx 0.309 MB"
    assert 'data-figure="size_bytes.file"' in render_html(report)
    assert "size" not in shown(report).split("search")[0].replace("size_", "").partition("FP32  ")[0]


def test_scores_beside_a_required_one_are_told_from_it() -> None:
    report = sample_report(20)
    holdout = Holdout("other.npz", Score(0.92, None, 100), Score(0.9107999, None, 100), 0.9108)
    report = replace(report, accuracy=replace(report.accuracy, holdout=holdout))
    [said] = [text for text in verdict.remarks(report) if "holdout" in text]
    assert "misses the target: 91.07999 % (FP32 92.00000 %, required 91.08000 %)" in said


def test_every_precision_has_a_place_in_the_comparison() -> None:
    names = [v.precision for v in wording.variants(sample_report(5))]
    assert names == [Precision.FP32, FP16, INT8, None]
