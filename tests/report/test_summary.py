"""The report's reasons, warnings and figures, from values made by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.fixtures_groups import make_chain, make_grouping, make_loose
from trt_mpq.emit.deliver import Delivery
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.report import data, summary
from trt_mpq.report.explain import Explainer
from trt_mpq.settings import Settings
from trt_mpq.types import (
    DeliveredScores,
    Evaluation,
    Grouping,
    Model,
    Precision,
    PrecisionPlan,
    Ranges,
    Ranking,
    Score,
    SearchResult,
    Target,
)

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
LADDER = (FP16, FP8, INT8)


def grouping_of(*excluded: dict[Precision, str]) -> Grouping:
    groups = make_chain(len(excluded))
    return make_grouping([replace(g, excluded=e) for g, e in zip(groups, excluded, strict=True)])


MODEL = Model("model.onnx", "a", "b", (), (), 17, 1000, 4000)


@dataclass(frozen=True)
class Found:
    """The values that a report is made of."""

    settings: Settings
    grouping: Grouping
    ranges: Ranges
    ranking: Ranking
    result: SearchResult
    latency: LatencyModel
    target: Target
    delivery: Delivery
    fp32: Score
    typed: Score
    required: float = 0.9
    weak: Score | None = None

    @property
    def explainer(self) -> Explainer:
        return Explainer(
            self.result, self.grouping, self.ranking, self.latency, self.target,
            None if self.limit else self.required,
        )  # fmt: skip

    @property
    def limit(self) -> str | None:
        return summary.limiting_option(self.settings)

    @property
    def warnings(self) -> tuple[str, ...]:
        files = DeliveredScores(self.result.chosen.score, self.typed, self.weak)
        of_files = summary.file_warnings(self.explainer, self.delivery, files, self.required)
        return (*of_files, *summary.range_warnings(self.explainer))

    @property
    def rows(self) -> tuple[data.GroupRow, ...]:
        return summary.group_rows(self.explainer, {node: "Conv" for g in self.grouping.groups for node in g.nodes})

    @property
    def accuracy(self) -> data.AccuracyFigures:
        return summary.accuracy_figures(
            self.result, self.grouping, self.fp32, required=self.required, fraction=0.99, metric="top1", samples=50
        )

    @property
    def latency_ms(self) -> data.LatencyFigures:
        return summary.latency_figures(self.result, self.grouping, self.latency, 8)

    @property
    def size_bytes(self) -> data.SizeFigures:
        return summary.size_figures(self.result, self.grouping, MODEL, 2100)

    @property
    def search(self) -> data.SearchRecord:
        sizes = summary.plan_sizes(self.grouping, MODEL)
        return summary.search_record(self.result, self.ranking, self.settings, 50, 1.5, sizes)


def findings(
    grouping: Grouping, plan: dict[str, Precision], ladder: tuple[Precision, ...] = LADDER, **changes: object
) -> Found:
    """A run over `grouping` that chose `plan`; group i is the i-th least sensitive of those a precision allows."""
    target = target_from_name("h200")
    latency = LatencyModel(grouping, target, 8)
    scores = {p: {g.id: float(i) for i, g in enumerate(grouping.groups) if g.allows(p)} for p in ladder if p.quantized}
    chosen = PrecisionPlan.of(plan)
    tried = [
        Evaluation(p, Score(0.9, 0.01, 50), latency.plan_ms(p), True, f"plan {i}")
        for i, p in enumerate(dict.fromkeys([grouping.uniform(grouping.top), chosen]))
    ]
    found = Found(
        settings=Settings(model=Path("nets/net.onnx")),
        grouping=grouping,
        ranges=Ranges({}, 32, {}),
        ranking=Ranking("noise", 0, tuple(g.id for g in grouping.groups), scores, forward_passes=100.0),
        result=SearchResult("greedy", ladder, tried[-1], tuple(tried)),
        latency=latency,
        target=target,
        delivery=Delivery("digest", True, 1000, None),
        fp32=Score(0.91, 0.01, 50),
        typed=Score(0.9, 0.01, 50),
    )
    return replace(found, **changes)


def test_a_group_in_fp32_says_why_and_is_a_warning():
    grouping = grouping_of({}, dict.fromkeys((FP16, FP8, INT8), "tensor x reaches 1e+06"))
    found = findings(grouping, {"g0": FP16, "g1": FP32})
    assert found.rows[1].reason == "tensor x reaches 1e+06, so it runs in FP32"
    assert "g1 leaves FP16: tensor x reaches 1e+06, so it runs in FP32" in found.warnings


def test_what_overflows_names_its_refuge_or_why_there_is_none():
    grouping = grouping_of({}, dict.fromkeys((FP16, FP8, INT8), "tensor x reaches 1e+06"))
    refuge = findings(replace(grouping, refuge=BF16), {"g0": INT8, "g1": BF16})
    assert refuge.rows[1].reason == "tensor x reaches 1e+06, so it runs in BF16"
    assert [w for w in refuge.warnings if "BF16" in w] == [
        "weak.onnx has 1 group of the plan in FP32 in place of BF16, which TensorRT 8.6 does not have",
        "g1 leaves FP16: tensor x reaches 1e+06, so it runs in BF16",
    ]
    h200 = target_from_name("h200")
    turing = replace(h200, name="turing", peak_tops={p: r for p, r in h200.peak_tops.items() if p is not BF16})
    lacking = findings(grouping, {"g0": INT8, "g1": FP32}, target=turing)
    assert lacking.rows[1].reason == "tensor x reaches 1e+06, so it runs in FP32: turing has no BF16"


def test_a_bf16_ladder_is_compared_with_bf16():
    grouping = replace(grouping_of({}, {}), top=BF16)
    report = findings(grouping, {"g0": INT8, "g1": BF16}, ladder=(BF16, INT8))
    assert (report.accuracy.fp16, report.latency_ms.fp16, report.size_bytes.fp16) == (None, None, None)
    assert report.accuracy.uniform[BF16] == 0.9
    assert report.latency_ms.of(BF16) == report.latency_ms.uniform[BF16] > report.latency_ms.plan
    assert report.size_bytes.of(BF16) == 2000
    assert [(row.fp16_latency_ms, row.bf16_latency_ms) for row in report.rows] == [
        (None, row.baseline_latency_ms) for row in report.rows
    ]
    assert all(row.baseline_latency_ms for row in report.rows)


def test_loose_ops_that_leave_the_high_precision_are_one_warning_for_each_reason():
    groups, why = make_chain(1), "tensor mix.out reaches 7e+04, beyond the FP16 range of 65504"
    mix, more, calm = (make_loose(name, ["g0.out"]) for name in ("mix", "more", "calm"))
    for names, beyond, sentence in (
        ([mix], {FP16: why, BF16: why}, f"mix leaves FP16: {why}, so it runs in FP32"),
        ([mix, more], {FP16: why}, f"mix and 1 more leave FP16: {why}, so they run in BF16"),
    ):
        loose = [replace(op, excluded=beyond) for op in names]
        grouping = replace(make_grouping(groups, [*loose, calm]), refuge=BF16)
        assert [w for w in findings(grouping, {"g0": FP16}).warnings if "leave" in w] == [sentence]
        on_bf16 = replace(grouping, refuge=FP32, top=BF16)
        assert bool([w for w in findings(on_bf16, {"g0": BF16}).warnings if "leave" in w]) == (BF16 in beyond)


@pytest.mark.parametrize(("scored", "warned"), [(0.95, False), (0.9, False), (0.899, True)])
def test_a_typed_file_that_misses_the_target_is_a_warning(scored: float, warned: bool) -> None:
    found = replace(findings(grouping_of({}), {"g0": INT8}), typed=Score(scored, None, 50))
    warnings = [w for w in found.warnings if w.startswith("typed.onnx in ONNX Runtime scores 89.90 %")]
    assert bool(warnings) is warned
    assert not any("uniform" in text for text in warnings)
    assert not any("typed.onnx" in text for text in replace(found, required=0.99).warnings), "so does the plan"


def test_a_typed_file_of_the_widest_plan_is_delivered_whatever_it_scores() -> None:
    found = replace(findings(grouping_of({}), {"g0": FP16}), typed=Score(0.8, None, 50))
    assert (
        "typed.onnx in ONNX Runtime scores 80.00 %, less than the required 90.00 %, which the plan keeps, but it is "
        "uniform FP16, which is what there is without a search"
    ) in found.warnings


def test_groups_pinned_below_fp16_are_said_to_be_so_in_the_baseline() -> None:
    only_int8 = dict.fromkeys((p for p in Precision if p is not INT8), "pinned to int8 by --keep int8:g0")
    found = findings(grouping_of(only_int8, {}), {"g0": INT8, "g1": FP16})
    assert "--keep pins 1 group of 2 to 8 bit or less, in what is called FP16 here too" in found.warnings
    wide = dict.fromkeys((p for p in Precision if p is not FP16), "pinned to fp16 by --keep fp16:g0")
    assert not any("--keep" in text for text in findings(grouping_of(wide, {}), {"g0": FP16, "g1": INT8}).warnings)


def test_a_weak_file_that_misses_the_target_is_not_to_be_built() -> None:
    found = findings(grouping_of({}), {"g0": FP16})
    sound = replace(found, weak=Score(0.9, None, 50))
    assert not [text for text in sound.warnings if "weak.onnx" in text]
    (said,) = [w for w in replace(found, weak=Score(0.8, None, 50)).warnings if "weak.onnx" in w]
    assert said.startswith(
        "weak.onnx in ONNX Runtime scores 80.00 %, less than the required 90.00 %, which the plan keeps"
    )
    assert said.endswith(": build no engine with TensorRT 8.6 from it")


def test_a_study_plan_is_said_not_to_be_deployable():
    found = findings(grouping_of({}, {}), {"g0": INT4, "g1": FP16}, (FP16, INT4))
    warnings = replace(found, delivery=Delivery("d", False, 1, "INT4 is not for TensorRT 8.6")).warnings
    assert any(w.startswith("INT4 is for study") for w in warnings)
    assert "no weak.onnx was written: INT4 is not for TensorRT 8.6" in warnings


def test_costs_count_every_plan_tried_and_the_sensitivity():
    search = findings(grouping_of({}), {"g0": INT8}).search
    assert search.evaluations == 2
    assert search.full_equivalents == (2 * 50 + 100) / 50
    assert search.seconds == 1.5


def test_a_plan_that_was_decided_early_counts_what_ran_and_is_no_figure():
    found = findings(grouping_of({}), {"g0": INT8})
    first, chosen = found.result.path
    early = replace(first, score=Score(0.93, 0.02, 20), complete=False)
    report = replace(found, result=replace(found.result, path=(early, chosen)))
    assert report.search.full_equivalents == (20 + 50 + 100) / 50
    assert (report.search.decided_early, report.search.confidence) == (1, 0.999)
    assert [(step.samples, step.complete) for step in report.search.path] == [(20, False), (50, True)]
    assert report.accuracy.fp16 is None, "an estimate is no measured baseline"
    assert report.accuracy.plan == 0.9


def test_sizes_follow_the_precisions_and_the_rest_is_fp16():
    report = findings(grouping_of({}, {}), {"g0": INT8, "g1": FP16})
    rest = 1000 - 20
    assert report.size_bytes.fp32 == 4000
    assert report.size_bytes.fp16 == 2000
    assert report.size_bytes.plan == 2 * rest + 10 + 20
    assert report.size_bytes.uniform[INT8] == 2 * rest + 20


def test_a_sensitivity_that_is_no_number_is_absent():
    found = findings(grouping_of({}), {"g0": INT8})
    scores = {FP8: {"g0": float("inf")}, INT8: {"g0": 0.5}}
    report = replace(found, ranking=replace(found.ranking, scores=scores))
    assert report.rows[0].sensitivity == {FP8: None, INT8: 0.5}


def test_figures_that_were_not_evaluated_are_absent_and_never_guessed():
    report = findings(grouping_of({}), {"g0": INT8})
    assert report.accuracy.uniform == {FP16: 0.9, FP8: None, INT8: 0.9}
    assert set(report.latency_ms.uniform) == {FP16, FP8, INT8}
    assert report.latency_ms.source == "modelled"
