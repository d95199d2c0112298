"""Words and numbers about what happened on the device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.device_samples import DEPLOYMENTS, spread, with_device
from tests.report.samples import FP16, INT8, sample_report
from trt_mpq.report import verdict
from trt_mpq.report.device import below_text, device_text, interval_text
from trt_mpq.report.engine_chart import layer_ribbon
from trt_mpq.report.layer_split import LayerShare, group_times, layer_shares, time_split
from trt_mpq.types import Comparison, OutputComparison
from trt_mpq.types.engine import Conditions, Deployment, Ratio, RealisedGroup

MINUS = "\N{MINUS SIGN}"


def of(name: str) -> Deployment:
    deployment = DEPLOYMENTS[name].device
    assert deployment is not None
    return deployment


def ratio(value: float, low: float, high: float) -> Ratio:
    return Ratio("plan", "fp16", value, low, high, 0.99, 32)


@pytest.mark.parametrize(
    ("measured", "short", "words"),
    [
        (
            ratio(0.688, 0.68, 0.695),
            f"{MINUS}31.2 % ({MINUS}32.0 to {MINUS}30.5)",
            "31.2 % below FP16 (99 % confidence: 30.5 to 32.0 %)",
        ),
        (
            ratio(0.99, 0.97, 1.01),
            f"{MINUS}1.0 % ({MINUS}3.0 to +1.0)",
            "1.0 % below FP16 (99 % confidence: 3.0 % below to 1.0 % above)",
        ),
        (ratio(1.25, 1.2, 1.3), "+25.0 % (+20.0 to +30.0)", "25.0 % above FP16 (99 % confidence: 20.0 to 30.0 %)"),
    ],
)
def test_a_ratio_in_figures_and_in_words(measured: Ratio, short: str, words: str) -> None:
    deployment = of("plan shipped")
    assert deployment.timing is not None
    text = device_text(replace(deployment, timing=replace(deployment.timing, ratios=(measured,))))
    assert text.rows[0].ratio == short
    assert text.outcome == f"Shipped: the plan, 0.0214 ms measured, {words}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plan shipped", "Shipped: the plan, 0.0214 ms measured, 31.2 % below FP16 (99 % confidence: 30.8 to 31.6 %)"),
        (
            "fp16 shipped",
            "Shipped: FP16, 0.0311 ms measured; the plan is not faster by enough: 0.6 % below FP16 "
            "(99 % confidence: 0.0 to 1.2 %)",
        ),
        (
            "another shipped",
            "Shipped: candidate 2, 0.0221 ms measured, 28.9 % below FP16 (99 % confidence: 28.5 to 29.4 %)",
        ),
        (
            "uniform shipped",
            "Shipped: uniform INT8, 0.0192 ms measured, 38.3 % below FP16 (99 % confidence: 37.9 to 38.6 %)",
        ),
        ("no fp16", "Shipped: the plan, 0.0214 ms measured; FP16 was not timed"),
        ("all failed", "Nothing is shipped: no engine could be built"),
        ("nothing accurate", "Nothing is shipped: no engine that was built meets the target"),
        ("untimed", "Shipped: FP16, not timed"),
    ],
)
def test_the_outcome_in_a_line(name: str, text: str) -> None:
    assert device_text(of(name)).outcome == text


def test_fp16_without_rivals_says_so() -> None:
    deployment = of("fp16 shipped")
    missed = tuple(replace(c, feasible=c.name == "fp16") for c in deployment.candidates)
    outcome = device_text(replace(deployment, candidates=missed)).outcome
    assert outcome.endswith("; no other engine meets the target")


@pytest.mark.parametrize(
    ("medians", "ending"),
    [
        ({"plan": 0.04, "fp16": 0.0311}, "; the plan is slower: 28.6 % above FP16 (99 % confidence: 27.8 to 29.4 %)"),
        (
            {"plan": 0.0309, "fp16": 0.0311, "candidate-2": 0.0308},
            "; the plan is not faster by enough: 0.6 % below FP16 (99 % confidence: 0.0 to 1.2 %)",
        ),
        (
            {"plan": 0.0320, "fp16": 0.0311, "candidate-2": 0.0309},
            "; candidate 2 is not faster by enough: 0.6 % below FP16 (99 % confidence: 0.0 to 1.2 %)",
        ),
    ],
)
def test_fp16_is_explained_by_its_closest_rival(medians: dict[str, float], ending: str) -> None:
    deployment = with_device(sample_report(20), medians).device
    assert deployment is not None
    text = device_text(deployment).outcome
    assert text == f"Shipped: FP16, 0.0311 ms measured{ending}"
    rival = "candidate-2" if "candidate 2" in text else "plan"
    assert f"{rival} takes" in deployment.decision.verdict, "the decision names the same engine"


def test_rows_hold_what_was_measured_and_why_not() -> None:
    plan, fp16, int8, crashed, late = device_text(of("some failed")).rows
    assert [row.name for row in (plan, fp16, int8, crashed, late)] == [
        "plan", "FP16", "uniform INT8", "candidate 2", "candidate 3",
    ]  # fmt: skip
    assert (plan.median_ms, plan.size, plan.shipped, plan.remark) == (0.0214, "0.856 MB", True, "")
    assert plan.p99_ms == pytest.approx(0.0214 * 1.04)
    assert (fp16.ratio, fp16.accuracy, fp16.shipped) == ("\u2013", "not scored", False)
    assert int8.remark == "failed: TensorRT found no kernel for /layer1/layer1.0/conv1/Conv in INT8"
    assert int8.errors[1] == "[E] IBuilder::buildSerializedNetwork: Error Code 10"
    assert (crashed.median_ms, crashed.size) == (None, "\u2013")
    assert late.remark.startswith("timed out: the build took longer")


def test_others_are_compared_with_what_there_is() -> None:
    assert device_text(of("plan shipped")).baseline == "FP16"
    assert device_text(of("no fp16")).baseline == "the plan"
    assert device_text(of("all failed")).baseline == "FP16"


def test_how_engines_were_timed() -> None:
    deployment = of("plan shipped")
    assert device_text(deployment).timing == (
        "5 engines in turns, 12,800 inferences each as CUDA graphs, 4 inputs in rotation"
    )
    assert deployment.timing is not None
    profile = replace(deployment.timing.profiles["plan"], cuda_graph=False, input_sets=1)
    alone = replace(deployment, timing=replace(deployment.timing, profiles={"plan": profile}))
    assert device_text(alone).timing == "12,800 inferences without CUDA graphs, 1 input in rotation"
    assert device_text(of("untimed")).timing is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plan shipped", "SM clock 1980 to 1965 MHz, memory 3201 MHz, 118 to 413 W, 36 to 54 °C, not throttled"),
        ("launch-bound", "SM clock 1980 to 1410 MHz, memory 3201 MHz, 118 to 413 W, 36 to 54 °C"),
        ("no NVML", "clocks, power and temperature unknown: NVML does not tell"),
        ("all failed", None),
    ],
)
def test_the_state_of_the_gpu(name: str, text: str | None) -> None:
    assert device_text(of(name)).conditions == text


def test_throttling_and_launch_bound_models_are_said() -> None:
    assert device_text(of("plan shipped")).cautions == ()
    launch, hot = device_text(of("launch-bound")).cautions
    assert launch.startswith("Launch-bound")
    assert "power cap, software thermal slowdown" in hot


def test_throttling_before_and_after_is_named_once() -> None:
    deployment = of("plan shipped")
    assert deployment.timing is not None
    state = Conditions(throttled="power cap")
    both = replace(state, throttled="power cap, power brake")
    profile = replace(deployment.timing.profiles["plan"], before=state, after=both)
    hot = replace(deployment, timing=replace(deployment.timing, profiles={"plan": profile}))
    assert device_text(hot).cautions == ("Throttled by power cap, power brake: times run long, ratios hold.",)


def test_realised_precision_in_words() -> None:
    assert device_text(of("plan shipped")).realised == "20 of 20 groups run in the precision asked for"
    odd = device_text(of("badly realised"))
    assert odd.realised == "13 of 20 groups run in the precision asked for, 3 in another, 4 unknown"
    assert odd.layers == "25 layers, 17 reformats, 3 unfused Q/DQ"
    assert len(odd.differences) == 7
    assert "was asked for int8 and runs in fp16: its input reaches it unquantized" in odd.differences[0]
    assert device_text(of("all failed")).realised is None
    assert device_text(of("all failed")).layers is None


def test_only_the_first_differences_are_spelt_out() -> None:
    found = device_text(of("100 groups")).differences
    assert len(found) == 9
    assert found[-1] == "and 27 more in report.json"


def test_unused_options_are_named_once() -> None:
    assert device_text(of("some failed")).unused == (
        "tf32: TensorRT 11 has no such builder flag", "dla_core: this GPU has no DLA",
    )  # fmt: skip


def test_times_of_one_inference() -> None:
    parts = dict(device_text(of("plan shipped")).latency)
    assert parts["GPU compute"] == "0.0214 ms"
    assert parts["GPU compute, without CUDA graph"] == "0.0248 ms"
    assert parts["GPU compute, p99"] == "0.0223 ms"
    assert parts["latency with copies"] == "0.0284 ms"
    assert parts["throughput"] == "46,729 samples/s"
    assert device_text(of("all failed")).latency == ()


def test_samples_count_the_batch() -> None:
    deployment = of("plan shipped")
    assert deployment.timing is not None
    profile = replace(deployment.timing.profiles["plan"], batch=8, throughput=1000.0, latency=spread(1.0))
    larger = replace(deployment, timing=replace(deployment.timing, profiles={"plan": profile}))
    assert dict(device_text(larger).latency)["throughput"] == "8,000 samples/s"


def test_layers_are_told_apart_by_what_they_are_for() -> None:
    deployment = of("plan shipped")
    shares = layer_shares(deployment)
    assert deployment.timing is not None
    assert [share.ms for share in shares] == [layer.ms for layer in deployment.timing.profiles["plan"].layers]
    assert shares[0].purpose == "reformats"
    assert (shares[1].purpose, shares[1].groups) == ("groups", ("/layer1/layer1.0/conv1/Conv",))
    assert [share.purpose for share in shares].count("unfused Q/DQ") == 3
    assert (shares[-1].name, shares[-1].purpose) == ("avg_pool", "other")
    assert {share.precision for share in shares if share.purpose == "groups"} == {FP16, INT8}
    assert all(share.precision is None for share in shares if share.purpose != "groups")


def test_a_layer_of_two_precisions_has_none() -> None:
    deployment = of("plan shipped")
    assert deployment.realised is not None
    layer = "/layer1/layer1.0/conv1/Conv + relu"
    pair = (RealisedGroup("a", FP16, FP16, (layer,)), RealisedGroup("b", INT8, INT8, (layer,)))
    shares = layer_shares(replace(deployment, realised=replace(deployment.realised, groups=pair)))
    assert (shares[1].groups, shares[1].precision) == (("a", "b"), None)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_split_adds_up(name: str) -> None:
    shares = layer_shares(of(name))
    split = time_split(shares)
    assert sum(ms for _, ms, _ in split) == pytest.approx(sum(share.ms for share in shares))
    assert sum(part for _, _, part in split) == pytest.approx(1 if shares else 0)


def test_a_group_s_time_is_that_of_layers_it_has_for_itself() -> None:
    layers = {"a1": ("a",), "a2": ("a",), "b": ("b",), "bc": ("b", "c"), "pool": ()}
    shares = tuple(LayerShare(name, 1.5, "groups" if held else "other", held, None) for name, held in layers.items())
    assert group_times(shares) == {"a": 3.0}


def test_the_split_in_a_line() -> None:
    drawing = layer_ribbon(of("plan shipped"), {}) or ""
    assert "engine: groups 93 %, reformats 2 %, unfused Q/DQ 4 %, other 2 %" in drawing


@given(st.floats(0.01, 100), st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_interval_never_contradicts_the_change(value: float, below: float, above: float) -> None:
    measured = ratio(value, value * (1 - below), value * (1 + above))
    side = "below" if value <= 1 else "above"
    assert f"% {side} FP16" in below_text(measured)
    both = measured.low < 1 < measured.high
    assert ("above" in interval_text(measured)) >= both


def test_the_measured_truth_leads() -> None:
    assert verdict.lead(sample_report(20)).startswith("14 of 20 groups in INT8, modelled latency")
    for name, report in DEPLOYMENTS.items():
        assert verdict.lead(report) == f"{device_text(of(name)).outcome}."
        assert "modelled" not in verdict.lead(report)


@pytest.mark.parametrize(
    ("name", "remark"),
    [
        ("fp16 shipped", "the engine that is shipped runs every group in FP16."),
        ("another shipped", "the engine that is shipped is candidate 2."),
        ("uniform shipped", "the engine that is shipped is uniform INT8."),
        ("launch-bound", "Launch-bound: without a CUDA graph, enqueueing takes about as long as computing."),
    ],
)
def test_remarks_reconcile_search_and_device(name: str, remark: str) -> None:
    assert any(text.endswith(remark) for text in verdict.remarks(DEPLOYMENTS[name]))


def test_a_shipped_plan_needs_no_remark() -> None:
    assert verdict.remarks(DEPLOYMENTS["plan shipped"]) == ()


def test_fp16_as_the_plan_is_not_called_another_engine() -> None:
    report = DEPLOYMENTS["fp16 shipped"]
    shipped = of("fp16 shipped").candidate("fp16").plan
    same = replace(report, plan=replace(report.plan, digest=shipped.digest))
    assert not [text for text in verdict.remarks(same) if "what the search chose" in text]


def test_an_engine_below_the_target_is_said() -> None:
    report = DEPLOYMENTS["plan shipped"]
    assert report.device is not None
    assert report.device.score is not None
    low = replace(report, device=replace(report.device, score=replace(report.device.score, value=0.9)))
    assert "Through the engine the top1 is 90.00 %, below the required 90.68 %." in verdict.remarks(low)


def test_outputs_that_are_far_from_fp32_are_said_in_the_verdict() -> None:
    report = DEPLOYMENTS["plan shipped"]
    far = Comparison(64, (OutputComparison("logits", 5.4, 0.9, 1.2, 10.0, False),))
    said = "fails the comparison with FP32: output 'logits': 5.4 dB, required 10 dB."
    assert report.device is not None
    assert verdict.remarks(replace(report, comparison=far)) == (f"typed.onnx {said}",)
    engine = replace(report, device=replace(report.device, comparison=far))
    assert verdict.remarks(engine) == (f"The engine {said}",)


def test_titles() -> None:
    assert verdict.title(DEPLOYMENTS["plan shipped"]) == "14 of 20 groups in INT8"
    assert verdict.title(DEPLOYMENTS["fp16 shipped"]) == "FP16 shipped"
    assert verdict.title(DEPLOYMENTS["all failed"]) == "nothing shipped"


def test_reference_scores_of_engines() -> None:
    report = DEPLOYMENTS["plan shipped"]
    candidates = {c.name: c for c in of("plan shipped").candidates}
    assert report.reference_score(candidates["plan"]) == report.accuracy.plan
    assert report.reference_score(candidates["fp16"]) == report.accuracy.fp16
    assert report.reference_score(candidates["int8"]) == report.accuracy.uniform[INT8]
    assert report.reference_score(candidates["candidate-3"]) is None
    step = report.search.path[-1]
    seen = replace(step, plan=candidates["candidate-3"].plan.digest, score=0.91)
    scored = replace(report, search=replace(report.search, path=(seen,)))
    assert scored.reference_score(candidates["candidate-3"]) == 0.91
    early = replace(report, search=replace(report.search, path=(replace(seen, samples=100, complete=False),)))
    assert early.reference_score(candidates["candidate-3"]) is None


def test_notes_of_the_device_are_not_repeated() -> None:
    report = DEPLOYMENTS["some failed"]
    assert verdict.not_done(report) == ()
    assert verdict.not_done(replace(report, not_done=(*report.not_done, "more"))) == ("more",)
