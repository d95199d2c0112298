"""Why a group has its precision, told from what would change if it alone moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fixtures_groups import make_chain, make_group, make_grouping, make_loose
from trt_mpq.evaluate.score_scale import significant
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.report.explain import Explainer, mac_share
from trt_mpq.types import Evaluation, Grouping, Precision, PrecisionPlan, Ranking, Score, SearchResult

FP32, FP16, FP8, INT8 = Precision.FP32, Precision.FP16, Precision.FP8, Precision.INT8
LADDER = (FP16, FP8, INT8)


def chain(*excluded: dict[Precision, str], flops: int = 10**9) -> Grouping:
    """Groups that gain from 8 bit, arithmetic being most of their time."""
    groups = make_chain(len(excluded))
    return make_grouping([replace(g, excluded=e, flops=flops) for g, e in zip(groups, excluded, strict=True)])


def explained(
    grouping: Grouping,
    plan: dict[str, Precision],
    ladder: tuple[Precision, ...] = LADDER,
    failed: tuple = (),
    rescued: tuple[str, ...] = (),
) -> dict[str, str]:
    """Group to reason; group i is the i-th least sensitive of those a precision allows. `failed` plans were tried."""
    latency = LatencyModel(grouping, target_from_name("h200"), 8)

    def tried(plan: dict[str, Precision], score: float, feasible: bool) -> Evaluation:
        of = PrecisionPlan.of(plan)
        return Evaluation(of, Score(score, None, 50), latency.plan_ms(of), feasible, "step")

    chosen = tried(plan, 0.92, True)
    path = (chosen, *(tried(other, 0.81, False) for other in failed))
    groups = grouping.groups
    scores = {p: {g.id: float(i) for i, g in enumerate(groups) if g.allows(p)} for p in ladder[1:]}
    explainer = Explainer(
        SearchResult("ilp", ladder, chosen, path),
        grouping,
        Ranking("noise", 0, tuple(g.id for g in groups), scores),
        latency,
        target_from_name("h200"),
        0.9,
        rescued,
    )
    return {group.id: explainer.reason(group) for group in groups}


def test_a_quantized_group_says_what_it_saves_and_where_it_ranks():
    grouping = chain({}, {}, {})
    plan = {"g0": INT8, "g1": INT8, "g2": FP16}
    model = LatencyModel(grouping, target_from_name("h200"), 8)
    saved = model.plan_ms(PrecisionPlan.of({**plan, "g1": FP16})) - model.plan_ms(PrecisionPlan.of(plan))
    assert (
        explained(grouping, plan)["g1"]
        == f"alone in fp16 it would cost {significant(1000 * saved)} µs more; 2nd least sensitive of 3 to int8"
    )
    assert explained(grouping, plan)["g0"].endswith("; least sensitive of 3 to int8")


def test_a_group_that_refinement_saved_says_so():
    said = explained(chain({}, {}), {"g0": INT8, "g1": INT8}, rescued=("g1",))
    assert said["g1"].endswith("2nd least sensitive of 2 to int8, saved by refinement for exactly this plan")
    assert "refinement" not in said["g0"]


@pytest.mark.parametrize(("rank", "text"), [(11, "11th"), (12, "12th"), (13, "13th"), (21, "21st"), (22, "22nd")])
def test_ordinals_are_english(rank: int, text: str):
    grouping = chain(*[{}] * 30)
    reason = explained(grouping, {g.id: INT8 for g in grouping.groups})[f"g{rank - 1}"]
    assert reason.endswith(f"; {text} least sensitive of 30 to int8")


def test_accuracy_a_move_that_was_tried_says_what_it_scored():
    plan = {"g0": INT8, "g1": FP16}
    reason = explained(chain({}, {}), plan, failed=({"g0": INT8, "g1": INT8},))["g1"]
    assert reason.startswith("alone in int8 it would save ")
    assert reason.endswith(", but then scores 81.00 %, below 90.00 %")


def test_accuracy_a_move_that_was_not_tried_says_where_it_ranks():
    reason = explained(chain({}, {}), {"g0": INT8, "g1": FP16})["g1"]
    assert reason.startswith("alone in int8 it would save ")
    assert reason.endswith(", but is the 2nd least sensitive of 2 to int8")


def test_boundary_cost():
    """Tiny groups: a kernel more costs more than the arithmetic saves."""
    reasons = explained(chain({}, {}, flops=1000), {"g0": FP16, "g1": FP16}, (FP16, INT8))
    assert reasons["g1"] == "int8 would need 1 more conversion, which cost what it saves or more"


def test_no_gain():
    """Nothing but a launch and a conversion of its input, in whatever precision."""
    empty = replace(make_group("g0", weights=0, input_elements=0, output_elements=0), flops=0)
    assert explained(make_grouping([empty]), {"g0": FP16}, (FP16, INT8)) == {"g0": "int8 would not be faster"}


def test_a_group_that_costs_at_its_boundaries_says_so():
    reasons = explained(chain({}, {}, {}, flops=1000), {"g0": FP16, "g1": INT8, "g2": FP16}, (FP16, INT8))
    assert "at its boundaries; 2nd least sensitive of 3 to int8" in reasons["g1"]
    assert reasons["g1"].startswith("alone in fp16 it would save ")


def test_a_group_that_one_format_excludes_is_judged_by_the_other():
    grouping = chain({}, {FP8: "kernel volume 49 is above 32"})
    assert explained(grouping, {"g0": FP8, "g1": FP16})["g1"].startswith("alone in int8 it would ")


def test_a_group_that_all_formats_exclude_gives_the_reason_of_the_format_in_use():
    grouping = chain({}, {FP8: "too narrow", INT8: "odd channels"})
    assert explained(grouping, {"g0": INT8, "g1": FP16})["g1"] == "odd channels"
    assert explained(grouping, {"g0": FP8, "g1": FP16})["g1"] == "too narrow"


def test_a_group_in_fp32_says_why_fp16_is_out():
    grouping = chain({}, dict.fromkeys((FP16, FP8, INT8), "tensor x reaches 1e+06"))
    assert explained(grouping, {"g0": FP16, "g1": FP32})["g1"] == "tensor x reaches 1e+06, so it runs in FP32"


def test_a_pinned_group_says_by_what():
    text = "pinned to int8 by --keep int8:g1"
    grouping = chain({}, dict.fromkeys((FP32, FP16, FP8), text))
    assert explained(grouping, {"g0": FP16, "g1": INT8})["g1"] == text


def test_the_share_of_arithmetic_in_8_bit_or_less():
    plan = PrecisionPlan.of({"a": INT8, "b": FP16, "c": FP8})
    groups = [make_group(name, ["x"], flops=flops) for name, flops in (("a", 30), ("b", 50), ("c", 20))]
    outside = replace(make_loose("lstm", ["x"], op_type="LSTM"), flops=100)
    assert mac_share(plan, make_grouping(groups)) == 0.5
    assert mac_share(plan, make_grouping(groups, [make_loose("add", ["x"]), outside])) == 0.25
    assert mac_share(plan, make_grouping([replace(group, flops=0) for group in groups])) == 0.0
