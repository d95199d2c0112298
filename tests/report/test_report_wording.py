from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.samples import FP8, FP16, INT4, INT8, sample_report, uniform_report
from trt_mpq.report import verdict, wording
from trt_mpq.report.data import Report
from trt_mpq.types import Precision, WorkShare
from trt_mpq.types.target import LatencyError

FP32 = Precision.FP32


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.021, "0.0210"),
        (1.094, "1.09"),
        (12.34, "12.3"),
        (123.4, "123"),
        (5721.0, "5721"),
        (-0.5, "-0.500"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert wording.significant(value) == text


@given(st.floats(1e-6, 1e6))
def test_significant_is_within_half_a_unit_of_the_third_digit(value: float) -> None:
    assert float(wording.significant(value)) == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(
    ("value", "reference", "change", "words"),
    [
        (0.73, 1.0, "\N{MINUS SIGN}27 %", "27 % below FP16"),
        (1.03, 1.0, "+3 %", "3 % above FP16"),
        (1.001, 1.0, "0 %", "same as FP16"),
    ],
)
def test_changes(value: float, reference: float, change: str, words: str) -> None:
    assert wording.change_text(value, reference) == change
    assert wording.below_text(value, reference, "FP16") == words


class TestModelError:
    """A modelled latency is shown with the error of the model, and a difference within it is none."""

    def report(self, plan_ms: float, fp32_ms: float = 0.0778) -> Report:
        sample = sample_report()
        error = LatencyError(0.25, 0.06, 30, "l4")
        latency = replace(sample.latency_ms, fp16=0.1, plan=plan_ms, fp32=fp32_ms, error=error)
        return replace(sample, latency_ms=latency)

    def test_a_gain_beyond_the_error(self) -> None:
        report = self.report(0.07)
        assert verdict.headline(report)[3] == "modelled latency 0.0700 ms ± 25 %, 30 % ± 6 points below FP16"
        assert "about" not in " ".join(verdict.remarks(report)).lower()

    @pytest.mark.parametrize(("ms", "change"), [(0.095, "\N{MINUS SIGN}5 %"), (0.1001, "0 %"), (0.105, "+5 %")])
    def test_a_gain_within_the_error_is_about_equal(self, ms: float, change: str) -> None:
        report = self.report(ms, fp32_ms=1.0)
        assert wording.against_text(report.latency_ms, FP16) == f"about equal to FP16 ({change} ± 6 points)"
        assert "About as fast as FP16: " in " ".join(verdict.remarks(report))

    def test_fp32_is_called_faster_only_beyond_the_error(self) -> None:
        faster, equal = (" ".join(verdict.remarks(self.report(0.08, fp32_ms=ms))) for ms in (0.07, 0.078))
        assert "in FP32, is faster than any plan" in faster
        assert "in FP32" not in equal

    def test_measured_latencies_have_no_such_error(self) -> None:
        report = sample_report()
        assert report.latency_ms.error is None
        assert "±" not in verdict.headline(report)[3]
        assert wording.time_error(report.latency_ms.error) == wording.ratio_error(report.latency_ms.error) == ""


def test_units() -> None:
    assert wording.latency_text(0.0209) == "0.0209 ms"
    assert wording.latency_text(0.00073) == "0.730 µs"
    assert wording.latency_text(None) == wording.MISSING
    assert wording.size_text(284_000, 1_090_000) == "0.284 MB"
    assert wording.size_text(284_000, 284_000) == "284 kB"
    assert wording.count_text(41_200_000) == "41.2 M"
    assert wording.count_text(7) == "7"
    assert wording.duration_text(38.4) == "38 s"
    assert wording.duration_text(119.7) == "2 min 0 s"


def test_scores_are_percent_unless_the_metric_is_no_fraction() -> None:
    accuracy = sample_report(1).accuracy
    assert wording.score_text(0.9144, accuracy) == "91.44 %"
    decibel = replace(accuracy, metric="psnr", fp32=None, fp16=58.2, plan=31.25, target=30.0, uniform={INT8: 24.0})
    assert wording.score_text(31.25, decibel) == "31.25"
    assert wording.share_text(31.25, decibel) == wording.MISSING


def test_headline_of_a_mixed_plan() -> None:
    report = sample_report(20)
    report = replace(
        report,
        accuracy=replace(report.accuracy, plan=0.914, target=0.907),
        latency_ms=replace(report.latency_ms, plan=0.021, fp16=0.0288),
        size_bytes=replace(report.size_bytes, plan=284_000, fp32=1_090_000),
    )
    assert verdict.headline(report) == (
        "14 of 20 groups in INT8",
        "62 % of the multiply-adds in 8 bit or less",
        "top1 91.40 % (FP32 91.60 %, required 90.70 %)",
        "modelled latency 0.0210 ms, 27 % below FP16",
        "weights 0.284 MB (FP32 1.09 MB)",
    )
    assert verdict.remarks(report) == ()


def test_placement_names_every_narrow_precision() -> None:
    report = sample_report(57, (FP16, FP8, INT8))
    counts = {FP16: 17, FP8: 23, INT8: 17}
    assert report.plan.counts == counts
    assert verdict.headline(report)[0] == "23 of 57 groups in FP8, 17 in INT8"


def test_a_trivial_result_is_said_plainly() -> None:
    report = uniform_report(20)
    assert verdict.headline(report)[0] == "all 20 groups run in INT8"
    assert verdict.remarks(report)[0].startswith("Uniform INT8 already meets the target")


def test_a_uniform_plan_with_groups_that_cannot_is_trivial_too() -> None:
    report = sample_report(20)
    accuracy = replace(report.accuracy, plan=0.915, uniform={INT8: 0.915})
    latency = replace(report.latency_ms, uniform={INT8: report.latency_ms.plan})
    size = replace(report.size_bytes, uniform={INT8: report.size_bytes.plan})
    report = replace(report, accuracy=accuracy, latency_ms=latency, size_bytes=size)
    assert "6 groups cannot run in it" in verdict.remarks(report)[0]


def test_nothing_narrower_found() -> None:
    report = sample_report(5)
    rows = tuple(replace(row, precision=FP16) for row in report.group_rows)
    path = tuple(replace(step, feasible=False) for step in report.search.path)
    report = replace(
        report,
        plan=replace(report.plan, counts={FP16: 5}),
        group_rows=rows,
        search=replace(report.search, path=path),
        accuracy=replace(report.accuracy, uniform={INT8: 0.5}),
    )
    assert verdict.remarks(report) == ("Nothing narrower than FP16 was found to meet the target.",)
    assert verdict.headline(report)[0] == "nothing is quantized: all 5 groups run in FP16"
    assert verdict.searched(report).startswith("Nothing is quantized")


def test_nothing_that_may_be_narrower() -> None:
    report = sample_report(5)
    rows = tuple(replace(row, precision=FP16, sensitivity={}) for row in report.group_rows)
    work = (WorkShare(True, "int8: K = 4 is below 16", 30, 0.25), WorkShare(False, "LSTM: recurrent", 90, 0.75))
    plan = replace(report.plan, counts={FP32: 1, FP16: 4})
    search = replace(report.search, path=())
    report = replace(report, plan=plan, group_rows=rows, multiply_adds=work, search=search)
    assert verdict.headline(report)[0] == "nothing is quantized: 1 groups run in FP32, 4 groups run in FP16"
    report = replace(report, plan=replace(plan, counts={FP16: 5}))
    assert verdict.remarks(report) == (
        "No group may run in 8 bit; 75% of the multiply-adds stay out because of: LSTM: recurrent.",
    )
    free = replace(report, multiply_adds=(WorkShare(True, "", 90, 1.0),))
    assert "No group may" not in " ".join(verdict.remarks(free))


def test_a_missed_target_and_a_study_plan_are_said() -> None:
    report = sample_report(12, (FP16, INT8, INT4))
    report = replace(report, accuracy=replace(report.accuracy, plan=0.5))
    missed, study = verdict.remarks(report)
    assert "does not reach" in missed
    assert "no engine can be built" in study


@given(st.text())
def test_printable_text_holds_no_control_characters(text: str) -> None:
    clean = wording.printable(text)
    assert len(clean) == len(text)
    assert wording.printable(clean) == clean
    assert not set(clean) & {"\x1b", "\x00", "\r", "\u202e", "\x9b"}


def test_the_cost_of_a_search_says_how_many_plans_were_decided_early() -> None:
    report = sample_report(20)
    assert "11 plans tried (9 decided early at 99.9 % confidence), 6.71 passes over" in wording.search_cost(report)
    assert "1 plan tried, 1.00 passes" in wording.search_cost(uniform_report())
