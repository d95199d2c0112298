from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.engine.decide import decide
from trt_mpq.types import Precision, PrecisionPlan, Score
from trt_mpq.types.engine import (
    BuildStatus,
    Candidate,
    Conditions,
    EngineBuild,
    Profile,
    Ratio,
    SideBySide,
    Spread,
)

PLAN = PrecisionPlan.of({"a": Precision.INT8})
MARGIN = 0.02


def candidate(name: str, feasible: bool | None = True, status: BuildStatus = BuildStatus.BUILT) -> Candidate:
    reason = "" if status is BuildStatus.BUILT else f"no kernel for {name}"
    return Candidate(name, PLAN, EngineBuild(status, "strong", 1.0, reason=reason), feasible)


def profile(median: float) -> Profile:
    spread = Spread(median, median, median, median, median, median, median)
    return Profile(
        gpu_compute=spread, enqueue=spread, h2d=spread, d2h=spread, latency=spread, throughput=1.0, iterations=100,
        batch=1, cuda_graph=True, input_sets=1, warm_up_ms=200.0, other_graph_median=None, launch_bound=False,
        before=Conditions(), after=Conditions(),
    )  # fmt: skip


def timing(medians: dict[str, float], noise: float = 0.005, baseline: str = "fp16") -> SideBySide:
    """Engines of these medians; every ratio's interval reaches `noise` to either side."""
    of = medians[baseline]
    ratios = (
        Ratio(name, baseline, ms / of, ms / of - noise, ms / of + noise, 0.95, 30)
        for name, ms in medians.items()
        if name != baseline
    )
    return SideBySide({name: profile(ms) for name, ms in medians.items()}, tuple(ratios))


class TestAgainstFP16:
    def test_fastest_is_shipped_with_its_numbers(self):
        names = "plan", "fp16", "int8", "candidate-2"
        times = timing({"plan": 0.8, "fp16": 1.0, "int8": 0.9, "candidate-2": 0.7})
        decision = decide([candidate(name) for name in names], times, MARGIN)
        assert decision.shipped == "candidate-2"
        assert decision.verdict == (
            "candidate-2 is shipped: 0.7 ms against 1 ms of fp16, 0.700 of its time (95% confidence: 0.695 to 0.705)"
        )

    def test_faster_by_less_than_the_margin_ships_fp16(self):
        decision = decide([candidate("plan"), candidate("fp16")], timing({"plan": 0.981, "fp16": 1.0}, 0.001), MARGIN)
        assert decision.shipped == "fp16"
        assert decision.verdict == (
            "fp16 is shipped: plan takes 0.981 ms against 1 ms of fp16, 0.981 of its time "
            "(95% confidence: 0.980 to 0.982), and the upper end has to be below 0.980"
        )

    def test_faster_by_less_than_the_noise_ships_fp16(self):
        times = timing({"plan": 0.9, "fp16": 1.0}, noise=0.09)
        assert decide([candidate("plan"), candidate("fp16")], times, MARGIN).shipped == "fp16"
        assert decide([candidate("plan"), candidate("fp16")], times, 0.0).shipped == "plan"

    def test_upper_end_at_the_bound_is_not_below_it(self):
        times = timing({"plan": 0.5, "fp16": 1.0}, noise=0.25)
        assert decide([candidate("plan"), candidate("fp16")], times, 0.25).shipped == "fp16"

    def test_a_noisy_fastest_does_not_hide_a_proven_one(self):
        times = timing({"plan": 0.8, "fp16": 1.0, "int8": 0.7})
        noisy = tuple(
            Ratio("int8", "fp16", 0.7, 0.4, 1.0, 0.95, 30) if r.subject == "int8" else r for r in times.ratios
        )
        names = "plan", "fp16", "int8"
        decision = decide([candidate(name) for name in names], SideBySide(times.profiles, noisy), MARGIN)
        assert decision.shipped == "plan"

    def test_plan_is_preferred_to_what_cannot_be_told_from_it(self):
        names = "int8", "fp16", "plan"
        close = timing({"int8": 0.795, "fp16": 1.0, "plan": 0.8})
        assert decide([candidate(name) for name in names], close, MARGIN).shipped == "plan"
        apart = timing({"int8": 0.785, "fp16": 1.0, "plan": 0.8})
        assert decide([candidate(name) for name in names], apart, MARGIN).shipped == "int8"

    def test_infeasible_and_never_scored_candidates_are_passed_over_and_named(self):
        given = [candidate("plan"), candidate("fp16"), candidate("int8", False), candidate("candidate-2", None)]
        times = timing({"plan": 0.8, "fp16": 1.0, "int8": 0.5, "candidate-2": 0.4})
        decision = decide(given, times, MARGIN)
        assert decision.shipped == "plan"
        assert "; int8 does not reach the accuracy target" in decision.verdict
        assert "; the accuracy of candidate-2 was never measured" in decision.verdict

    @pytest.mark.parametrize(
        ("status", "clause"),
        [
            (BuildStatus.FAILED, "; the int8 build failed (no kernel for int8)"),
            (BuildStatus.CRASHED, "; the int8 build crashed (no kernel for int8)"),
            (BuildStatus.TIMED_OUT, "; the int8 build timed out (no kernel for int8)"),
        ],
    )
    def test_failed_builds_are_named(self, status: BuildStatus, clause: str):
        given = [candidate("plan"), candidate("fp16"), candidate("int8", True, status)]
        decision = decide(given, timing({"plan": 0.8, "fp16": 1.0}), MARGIN)
        assert decision.shipped == "plan"
        assert decision.verdict.endswith(clause)

    def test_only_fp16_is_left(self):
        given = [candidate("plan", False), candidate("fp16", None)]
        decision = decide(given, timing({"plan": 0.5, "fp16": 1.0}), MARGIN)
        assert decision.shipped == "fp16"
        assert decision.verdict.startswith("fp16 is shipped: no other engine is accurate enough")


class TestWithoutFP16:
    def test_its_build_failed(self):
        given = [candidate("plan"), candidate("fp16", True, BuildStatus.FAILED), candidate("int8")]
        decision = decide(given, timing({"plan": 0.8, "int8": 0.6}, baseline="plan"), MARGIN)
        assert decision.shipped == "int8"
        assert decision.verdict == (
            "int8 is shipped, with 0.6 ms the fastest that may be; no comparison with FP16 was possible: its engine "
            "was not built, so that ratios are to plan, the best that was; the fp16 build failed (no kernel for fp16)"
        )

    def test_it_is_not_accurate_enough(self):
        decision = decide([candidate("plan"), candidate("fp16", False)], timing({"plan": 1.2, "fp16": 1.0}), MARGIN)
        assert decision.shipped == "plan"
        assert "no comparison with FP16 was possible: it does not reach the accuracy target" in decision.verdict

    def test_plan_is_preferred_to_what_cannot_be_told_from_it(self):
        given = [candidate("int8"), candidate("plan")]
        assert decide(given, timing({"int8": 0.999, "plan": 1.0}, baseline="int8"), MARGIN).shipped == "plan"
        assert decide(given, timing({"int8": 0.9, "plan": 1.0}, baseline="int8"), MARGIN).shipped == "int8"

    @pytest.mark.parametrize("with_profiles", [False, True])
    def test_nothing_was_timed(self, with_profiles: bool):
        nothing = SideBySide({}, ()) if with_profiles else None
        given = [candidate("int8"), candidate("plan"), candidate("fp16")]
        decision = decide(given, nothing, MARGIN)
        assert decision.shipped == "fp16"
        assert decision.verdict.startswith(
            "fp16 is shipped untimed; no comparison with FP16 was possible: its engine was not timed"
        )
        assert ("; int8 was not timed" in decision.verdict) == with_profiles
        assert decide(given[:2], nothing, MARGIN).shipped == "plan"

    def test_only_fp16_was_not_timed(self):
        given = [candidate("plan"), candidate("fp16")]
        decision = decide(given, SideBySide({"plan": profile(1.0)}, ()), MARGIN)
        assert decision.shipped == "plan"
        assert "no comparison with FP16 was possible: its engine was not timed" in decision.verdict

    def test_fp16_is_no_candidate(self):
        decision = decide([candidate("candidate-2")], None, MARGIN)
        assert decision.shipped == "candidate-2"
        assert "it is not among the candidates" in decision.verdict

    def test_an_engine_that_misses_the_target_is_said_to(self):
        missed = replace(candidate("plan", False), score=Score(0.8765, None, 100))
        decision = decide([missed, candidate("fp16")], timing({"plan": 0.5, "fp16": 1.0}), MARGIN)
        assert decision.shipped == "fp16"
        assert decision.verdict.endswith("; plan misses the accuracy target through its engine")

    def test_nothing_may_be_shipped(self):
        given = [candidate("plan", False), candidate("fp16", True, BuildStatus.CRASHED), candidate("int8", None)]
        decision = decide(given, None, MARGIN)
        assert decision.shipped is None
        assert decision.verdict == (
            "nothing is shipped: no engine was built that reaches the accuracy target; plan does not reach the "
            "accuracy target; the fp16 build crashed (no kernel for fp16); the accuracy of int8 was never measured"
        )
        assert decide([], None, MARGIN).shipped is None


NAMES = "plan", "fp16", "int8"
STATES = [
    (status, feasible, timed)
    for status in (BuildStatus.BUILT, BuildStatus.FAILED)
    for feasible in (True, False, None)
    for timed in (True, False)
    if status is BuildStatus.BUILT or not timed
]


def check_laws(given: list[Candidate], times: SideBySide | None, margin: float) -> None:
    decision = decide(given, times, margin)
    may = {c.name for c in given if c.build.built and (c.feasible or (c.feasible is None and c.name in NAMES[:2]))}
    measured = may & set(times.profiles) if times else set()
    for failed in (c for c in given if not c.build.built):
        assert f"the {failed.name} build" in decision.verdict
    if not may:
        assert decision.shipped is None
        return
    assert decision.shipped in may
    assert decision.verdict.startswith(f"{decision.shipped} is shipped")
    assert decision.shipped in measured or not measured
    assert ("no comparison" in decision.verdict) == ("fp16" not in measured)
    if times is None or "fp16" not in measured:
        return
    proven = {r.subject: r for r in times.ratios if r.subject in measured and r.high < 1 - margin}
    assert (decision.shipped == "fp16") == (not proven)
    if proven:
        fastest = min(proven, key=lambda name: times.profiles[name].gpu_compute.median)
        tied = "plan" in proven and proven["plan"].low <= proven[fastest].high
        assert decision.shipped == ("plan" if tied else fastest)


def test_every_combination_of_outcomes_of_three_candidates():
    speeds = {"plan": 0.8, "fp16": 1.0, "int8": 0.7}, {"plan": 0.99, "fp16": 1.0, "int8": 1.3}
    count = 0
    for states in product(STATES, repeat=3):
        given = [candidate(name, s[1], s[0]) for name, s in zip(NAMES, states, strict=True)]
        timed = [name for name, s in zip(NAMES, states, strict=True) if s[2]]
        for speed in speeds:
            medians = {name: speed[name] for name in timed}
            baseline = "fp16" if "fp16" in medians else next(iter(medians), "")
            check_laws(given, timing(medians, baseline=baseline) if medians else None, MARGIN)
            count += 1
    assert count == 2 * prod([len(STATES)] * 3) == 2 * 9**3


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[Candidate], SideBySide]:
    names = draw(st.permutations(["plan", "fp16", "int8", "fp8", "candidate-2"]))
    given = [candidate(name, draw(st.sampled_from([True, False, None]))) for name in names]
    medians = {name: draw(st.floats(0.5, 1.5)) for name in names}
    ratios = []
    for name in names:
        if name != "fp16":
            value = medians[name] / medians["fp16"]
            below, above = draw(st.floats(0, 0.3)), draw(st.floats(0, 0.3))
            ratios.append(Ratio(name, "fp16", value, value - below, value + above, 0.95, 30))
    return given, SideBySide({name: profile(ms) for name, ms in medians.items()}, tuple(ratios))


@given(sessions(), st.floats(0, 0.5))
def test_laws_hold_for_any_timing(session: tuple[list[Candidate], SideBySide], margin: float):
    check_laws(*session, margin)


@given(sessions(), st.floats(0, 0.5), st.floats(0, 0.4))
def test_a_larger_margin_never_turns_fp16_into_something_else(
    session: tuple[list[Candidate], SideBySide], margin: float, more: float
):
    if decide(*session, margin).shipped == "fp16":
        assert decide(*session, margin + more).shipped == "fp16"
