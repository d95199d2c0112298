"""Which engine is shipped: the fastest that is accurate enough and beats the baseline by more than the noise, if any.

The baseline is the network in its high precision, FP16 or BF16. Quantization costs accuracy and effort, so it has to
pay: a candidate replaces the baseline only if the upper end of the confidence interval of their ratio is below what the
margin asks for. Accuracy has to be known for that, by the score through the engine where that could be measured; where
not, the search answers for its plan and for the baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trt_mpq.types.engine import Candidate, Decision, Ratio, SideBySide

PLAN = "plan"


def decide(
    candidates: Sequence[Candidate], timing: SideBySide | None, margin: float, baseline: str = "fp16"
) -> Decision:
    """The candidate to ship, and why, in a sentence with numbers.

    Of candidates that beat the baseline by the margin the fastest median wins, the search's plan if its interval
    overlaps the fastest one's. Without a baseline engine that is accurate enough and timed, the fastest of the others
    is shipped; if none was timed, the baseline, else the search's plan. The verdict then says that no comparison was
    possible.

    Args:
        candidates: What was built, the search's choice called "plan".
        timing: The built ones timed in turns, None if they were not.
        margin: Fraction of the baseline's time that a candidate has to save.
        baseline: Name of the candidate in high precision.

    Returns:
        The decision; nothing is shipped if no engine was built that may be.
    """
    shippable = [candidate for candidate in candidates if candidate.build.built and _accurate(candidate, baseline)]
    if not shippable:
        verdict = "nothing is shipped: no engine was built that reaches the accuracy target"
        return Decision(None, _with_reasons(verdict, candidates, timing, baseline), baseline)
    timed = [candidate.name for candidate in shippable if timing is not None and candidate.name in timing.profiles]
    if timing is not None and baseline in timed:
        shipped, verdict = _against_baseline(timed, timing, margin, baseline)
    else:
        shipped, verdict = _without_baseline([candidate.name for candidate in shippable], timed, timing, baseline)
        verdict += f"; no comparison with {baseline.upper()} was possible: {_missing_baseline(candidates, baseline)}"
        if timing is not None and timing.ratios and timing.ratios[0].baseline != baseline:
            verdict += f", so that ratios are to {timing.ratios[0].baseline}, the best that was"
    return Decision(shipped, _with_reasons(verdict, candidates, timing, baseline), baseline)


def _accurate(candidate: Candidate, baseline: str) -> bool:
    if candidate.feasible is None:
        return candidate.name in (PLAN, baseline)
    return candidate.feasible


def _against_baseline(timed: Sequence[str], timing: SideBySide, margin: float, baseline: str) -> tuple[str, str]:
    """Name and verdict where the baseline was timed and is accurate enough."""
    required = 1 - margin
    ratios = {name: ratio for name in timed if (ratio := _against(name, baseline, timing)) is not None}
    if not ratios:
        return baseline, f"{baseline} is shipped: no other engine is accurate enough and was compared with it"
    faster = [name for name, ratio in ratios.items() if ratio.high < required]
    if faster:
        shipped = _preferred(faster, timing, ratios)
        return shipped, f"{shipped} is shipped: {_measured(shipped, timing, ratios[shipped])}"
    closest = _preferred(list(ratios), timing, ratios)
    return baseline, (
        f"{baseline} is shipped: {closest} takes {_measured(closest, timing, ratios[closest])}, "
        f"and the upper end has to be below {required:.3f}"
    )


def _without_baseline(
    shippable: Sequence[str], timed: Sequence[str], timing: SideBySide | None, baseline: str
) -> tuple[str, str]:
    """Name and verdict where the baseline was not timed or is not accurate enough."""
    if timing is None or not timed:
        # What was never timed is not known to be faster than the baseline.
        shipped = next((name for name in (baseline, PLAN) if name in shippable), shippable[0])
        return shipped, f"{shipped} is shipped untimed"
    ratios = {ratio.subject: ratio for ratio in timing.ratios}
    shipped = _preferred(timed, timing, ratios)
    return shipped, f"{shipped} is shipped, with {_median_ms(shipped, timing):.4g} ms the fastest that may be"


def _preferred(names: Sequence[str], timing: SideBySide, ratios: dict[str, Ratio]) -> str:
    """The fastest of `names` by its median, or the search's plan if that cannot be told from the fastest."""
    fastest = min(names, key=lambda name: _median_ms(name, timing))
    if PLAN in names and _overlap(_interval(PLAN, ratios), _interval(fastest, ratios)):
        return PLAN
    return fastest


def _interval(name: str, ratios: dict[str, Ratio]) -> tuple[float, float]:
    """Confidence interval of the time of `name` over the session's baseline, which is 1 for the baseline itself."""
    return (ratios[name].low, ratios[name].high) if name in ratios else (1.0, 1.0)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _against(name: str, baseline: str, timing: SideBySide) -> Ratio | None:
    return next((r for r in timing.ratios if (r.subject, r.baseline) == (name, baseline)), None)


def _median_ms(name: str, timing: SideBySide) -> float:
    return timing.profiles[name].gpu_compute.median


def _measured(name: str, timing: SideBySide, ratio: Ratio) -> str:
    return (
        f"{_median_ms(name, timing):.4g} ms against {_median_ms(ratio.baseline, timing):.4g} ms of {ratio.baseline}, "
        f"{ratio.value:.3f} of its time ({ratio.confidence:.0%} confidence: {ratio.low:.3f} to {ratio.high:.3f})"
    )


def _missing_baseline(candidates: Sequence[Candidate], name: str) -> str:
    baseline = next((candidate for candidate in candidates if candidate.name == name), None)
    if baseline is None:
        return "it is not among the candidates"
    if not baseline.build.built:
        return "its engine was not built"
    if not _accurate(baseline, name):
        return "it does not reach the accuracy target"
    return "its engine was not timed"


def _with_reasons(verdict: str, candidates: Sequence[Candidate], timing: SideBySide | None, baseline: str) -> str:
    return "; ".join((verdict, *_left_out(candidates, timing, baseline)))


def _left_out(candidates: Sequence[Candidate], timing: SideBySide | None, baseline: str) -> Iterator[str]:
    """One clause per candidate that had no part in the comparison."""
    for candidate in candidates:
        if not candidate.build.built:
            reason = f" ({candidate.build.reason})" if candidate.build.reason else ""
            yield f"the {candidate.name} build {candidate.build.status}{reason}"
        elif candidate.feasible is False and candidate.score is not None:
            yield f"{candidate.name} misses the accuracy target through its engine"
        elif candidate.feasible is False:
            yield f"{candidate.name} does not reach the accuracy target"
        elif not _accurate(candidate, baseline):
            yield f"the accuracy of {candidate.name} was never measured"
        elif timing is not None and candidate.name not in timing.profiles:
            yield f"{candidate.name} was not timed"
