"""The report's reasons, warnings and figures, from findings made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures_groups import make_chain, make_grouping, make_loose
from trt_mpq.emit.deliver import Delivery
from trt_mpq.latency import LatencyModel
from trt_mpq.settings import Settings
from trt_mpq.summary import Findings, summarize
from trt_mpq.target import target_from_name
from trt_mpq.types import (
    Comparison,
    Evaluation,
    Grouping,
    Model,
    Precision,
    PrecisionPlan,
    Ranges,
    Ranking,
    Score,
    SearchResult,
    TensorRange,
)

FP32, FP16, FP8, INT8, INT4 = Precision.FP32, Precision.FP16, Precision.FP8, Precision.INT8, Precision.INT4
LADDER = (FP16, FP8, INT8)


def grouping_of(*excluded: dict[Precision, str]) -> Grouping:
    groups = make_chain(len(excluded))
    return make_grouping([replace(g, excluded=e) for g, e in zip(groups, excluded, strict=True)])


def findings(
    grouping: Grouping, plan: dict[str, Precision], ladder: tuple[Precision, ...] = LADDER, **changes: object
) -> Findings:
    """A run over `grouping` that chose `plan`; group i is the i-th least sensitive of those a precision allows."""
    target = target_from_name("h200")
    latency = LatencyModel(grouping, target, 8)
    scores = {
        p: {g.id: float(i) for i, g in enumerate(grouping.groups) if g.allows(p)} for p in ladder if p is not FP16
    }
    chosen = PrecisionPlan.of(plan)
    tried = [
        Evaluation(p, Score(0.9, 0.01, 50), latency.plan_ms(p), True, f"plan {i}")
        for i, p in enumerate(dict.fromkeys([PrecisionPlan.uniform(grouping.groups, FP16, FP16), chosen]))
    ]
    found = Findings(
        settings=Settings(model=Path("nets/net.onnx")),
        model=Model("model.onnx", "a", "b", (), (), 17, 1000, 4000),
        grouping=grouping,
        followers={g.id: ("Relu",) for g in grouping.groups},
        ranges=Ranges("minmax", 32, {}),
        ranking=Ranking("noise", 0, tuple(g.id for g in grouping.groups), scores, forward_passes=100.0),
        calibration_source="calib.npz",
        evaluation_samples=50,
        result=SearchResult("greedy", ladder, tried[-1], tuple(tried)),
        fp32=Score(0.91, 0.01, 50),
        typed=Score(0.9, 0.01, 50),
        required=0.9,
        metric="top1",
        latency=latency,
        target=target,
        batch=8,
        refinement=(),
        rescued={},
        comparison=Comparison(10, 0.1, 0.1, ()),
        deployment=None,
        no_device="no GPU",
        delivery=Delivery("digest", True, 1000, None),
        search_seconds=1.5,
        notes=("a note",),
        environment={"python": "3"},
        command="trt-mpq build",
    )
    return replace(found, **changes)


def reasons(grouping: Grouping, plan: dict[str, Precision], **changes: object) -> dict[str, str]:
    return {row.id: row.reason for row in summarize(findings(grouping, plan, **changes)).group_rows}


def test_a_quantized_group_says_where_it_ranks():
    plan = dict.fromkeys(("g0", "g1", "g2", "g3"), INT8)
    assert reasons(grouping_of({}, {}, {}, {}), plan) == {
        "g0": "least sensitive of 4 to int8",
        "g1": "2nd least sensitive of 4 to int8",
        "g2": "3rd least sensitive of 4 to int8",
        "g3": "4th least sensitive of 4 to int8",
    }


@pytest.mark.parametrize(("rank", "text"), [(11, "11th"), (12, "12th"), (13, "13th"), (21, "21st"), (22, "22nd")])
def test_ordinals_are_english(rank, text):
    grouping = grouping_of(*[{}] * 30)
    plan = {g.id: INT8 for g in grouping.groups}
    assert reasons(grouping, plan)[f"g{rank - 1}"] == f"{text} least sensitive of 30 to int8"


def test_a_group_left_in_fp16_says_where_it_ranks_in_the_format_the_plan_uses():
    plan = {"g0": INT8, "g1": FP16}
    assert reasons(grouping_of({}, {}), plan)["g1"] == (
        "stays in fp16: 2nd least sensitive of 2 to int8, left out of the fastest plan"
    )


def test_a_group_that_one_format_excludes_is_judged_by_the_other():
    """FP8 comes first in the ladder and has no rank for the group."""
    grouping = grouping_of({}, {FP8: "kernel volume 49 is above 32"})
    assert reasons(grouping, {"g0": FP16, "g1": FP16})["g1"] == (
        "stays in fp16: 2nd least sensitive of 2 to int8, left out of the fastest plan"
    )
    assert reasons(grouping, {"g0": FP8, "g1": FP16})["g1"].startswith(
        "stays in fp16: 2nd least sensitive of 2 to int8"
    )


def test_a_group_that_all_formats_exclude_says_why():
    grouping = grouping_of({}, {FP8: "too narrow", INT8: "odd channels"})
    assert reasons(grouping, {"g0": INT8, "g1": FP16})["g1"] == "odd channels", "the reason of the format in use"
    assert reasons(grouping, {"g0": FP8, "g1": FP16})["g1"] == "too narrow"


def test_a_group_in_fp32_says_why_and_is_a_warning():
    grouping = grouping_of({}, dict.fromkeys((FP16, FP8, INT8), "tensor x reaches 1e+06"))
    found = findings(grouping, {"g0": FP16, "g1": FP32})
    assert summarize(found).group_rows[1].reason == "tensor x reaches 1e+06"
    assert "g1 stays in FP32: tensor x reaches 1e+06" in summarize(found).warnings


def test_a_loose_op_that_overflows_is_a_warning():
    groups = make_chain(1)
    grouping = make_grouping(groups, [make_loose("mix", ["g0.out"]), make_loose("calm", ["x"])])
    tensors = {"mix.out": TensorRange(-70000.0, 3.0), "calm.out": TensorRange(-1.0, 65504.0)}
    warnings = summarize(findings(grouping, {"g0": FP16}, ranges=Ranges("minmax", 1, tensors))).warnings
    assert [w for w in warnings if "FP32" in w] == ["mix stays in FP32: tensor mix.out leaves the FP16 range"]


@pytest.mark.parametrize(
    ("fp32", "plan", "typed", "warned"),
    [
        (0.9, 0.9, 0.9, False),
        (0.9, 0.9, 0.8981, False),
        (0.9, 0.9, 0.8979, True),
        (90.0, 90.0, 89.9, False),
        (90.0, 90.0, 89.8, True),
    ],
)
def test_a_typed_file_that_drifts_is_a_warning(fp32, plan, typed, warned):
    found = findings(grouping_of({}), {"g0": INT8})
    chosen = replace(found.result.chosen, score=Score(plan, None, 50))
    found = replace(
        found,
        fp32=Score(fp32, None, 50),
        typed=Score(typed, None, 50),
        result=replace(found.result, chosen=chosen),
    )
    warnings = [w for w in summarize(found).warnings if w.startswith("typed.onnx scores")]
    assert bool(warnings) is warned
    assert all("trust the plan's" in w for w in warnings)


def test_a_study_plan_is_said_not_to_be_deployable():
    found = findings(grouping_of({}, {}), {"g0": INT4, "g1": FP16}, (FP16, INT4))
    report = summarize(replace(found, delivery=Delivery("d", False, 1, "INT4 is not for TensorRT 8.6")))
    assert not report.plan.deployable
    assert any(w.startswith("INT4 is for study") for w in report.warnings)
    assert "no weak.onnx was written: INT4 is not for TensorRT 8.6" in report.warnings
    assert report.not_done == ("no engine: the plan is not deployable",)


def test_a_deployable_plan_says_what_was_not_done():
    (sentence,) = summarize(findings(grouping_of({}), {"g0": INT8})).not_done
    assert "no engine was built or timed: no GPU;" in sentence
    assert "trtexec --onnx=typed.onnx --stronglyTyped" in sentence


def test_costs_count_every_plan_tried_and_the_sensitivity():
    search = summarize(findings(grouping_of({}), {"g0": INT8})).search
    assert search.evaluations == 2
    assert search.full_equivalents == (2 * 50 + 100) / 50
    assert search.seconds == 1.5


def test_sizes_follow_the_precisions_and_the_rest_is_fp16():
    report = summarize(findings(grouping_of({}, {}), {"g0": INT8, "g1": FP16}))
    rest = 1000 - 20
    assert report.size_bytes.fp32 == 4000
    assert report.size_bytes.fp16 == 2000
    assert report.size_bytes.plan == 2 * rest + 10 + 20
    assert report.size_bytes.uniform[INT8] == 2 * rest + 20


def test_a_sensitivity_that_is_no_number_is_absent():
    found = findings(grouping_of({}), {"g0": INT8})
    scores = {FP8: {"g0": float("inf")}, INT8: {"g0": 0.5}}
    report = summarize(replace(found, ranking=replace(found.ranking, scores=scores)))
    assert report.group_rows[0].sensitivity == {FP8: None, INT8: 0.5}


def test_a_group_that_refinement_saved_says_so() -> None:
    said = reasons(grouping_of({}, {}), {"g0": INT8, "g1": INT8}, rescued={"g1": INT8})
    assert said["g1"].endswith("least sensitive of 2 to int8, saved by refinement for exactly this plan")
    assert "saved" not in said["g0"]


def test_figures_that_were_not_evaluated_are_absent_and_never_guessed():
    report = summarize(findings(grouping_of({}), {"g0": INT8}))
    assert report.accuracy.uniform == {FP16: 0.9, FP8: None, INT8: 0.9}
    assert set(report.latency_ms.uniform) == {FP16, FP8, INT8}
    assert report.latency_ms.source == "modelled"
    assert report.warnings[0] == "a note"
    assert report.model.name == "net.onnx"
    assert report.calibration.samples == 32
