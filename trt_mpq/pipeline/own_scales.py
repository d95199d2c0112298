"""The choice of which operands of Concats keep a scale of their own.

Tied, they cost resolution; apart, a requantization each, up to 8 % of a U-Net's latency. So they are set apart one by
one, those first that are smallest beside what they join, until the fastest plan keeps the target, and pays for no
requantization in vain. If it never does, plans will be mixed, and a fixed ratio decides. Whether fewer would do,
searches tell (`pipeline.ties`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, sqrt

from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.calibrate.own_scales import smaller_operands
from trt_mpq.groups.scales import LEAST_SCALE_RATIO
from trt_mpq.pipeline.calibration_methods import Choice, trial_of
from trt_mpq.pipeline.model_states import State
from trt_mpq.pipeline.networks import candidate_ranges_of, groups_of
from trt_mpq.types import Precision, PrecisionPlan


@dataclass(frozen=True)
class Known:
    """What was found for the network in other scales.

    Attributes:
        plan: A plan to try first; None for none.
        below: Only plans of less cost than this are looked for.
        aloud: Whether an observer hears what is tried.
    """

    plan: PrecisionPlan | None = None
    below: float = inf
    aloud: bool = True


NOTHING_KNOWN = Stage("nothing-known", lambda job: Known())


def choose_own_scales(store: Store, state: State, choices: Mapping[Precision, Choice]) -> State:
    """`state` with the largest ratio of scales at which the fastest plan keeps the target.

    Args:
        store: The run.
        state: The model that plans are made of.
        choices: The calibration methods.
    """
    choice = choices.get(Precision.INT8)
    if choice is None or not store.settings.seeks_target or store.settings.search == "uniform":
        return state
    tried = [state, *(replace(state, own_scales=ratio) for ratio in _levels(store[_ratios(state)]))]

    def keeps(number: int) -> bool:
        return bool(store[trial_of(store, tried[number], Precision.INT8, choice)].keeps_target)

    first, last = 1, len(tried) - 1
    if first == last or not keeps(last):
        return state
    while first < last:  # the more operands have scales of their own, the higher the score
        middle = (first + last) // 2
        first, last = (first, middle) if keeps(middle) else (middle + 1, last)
    return tried[last]


def fewer_of_their_own(store: Store, state: State) -> tuple[float, ...]:
    """Ratios from which on fewer operands of Concats have scales of their own than in `state`, the least first."""
    ratios = store[_ratios(state)]
    own = sum(times > state.own_scales for times in ratios)
    return tuple(level for level in reversed(_levels(ratios)) if sum(times > level for times in ratios) < own)


def _levels(ratios: Sequence[float]) -> list[float]:
    """One between any two `ratios` that cost a bit or more, the largest first: so each sets one more operand apart."""
    bounds = [inf, *(times for times in ratios if times > LEAST_SCALE_RATIO), LEAST_SCALE_RATIO]
    return [sqrt(high * low) for high, low in pairwise(bounds)]


def _ratios(state: State) -> Stage[tuple[float, ...]]:
    """How many times smaller operands of Concats are than what they join, the largest first."""
    grouping, candidates = groups_of(state), candidate_ranges_of(state)

    def make(job: Job) -> tuple[float, ...]:
        found = {times for _, _, times in smaller_operands(job[grouping], job[candidates][0])}
        return tuple(sorted(found, reverse=True))

    return Stage("scale-ratios", make, needs=(grouping, candidates))
