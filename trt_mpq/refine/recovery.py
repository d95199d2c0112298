"""What each refinement recovered: the score of every uniform plan without and with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import TypeVar

from trt_mpq.refine.for_plan import Refined
from trt_mpq.types import Evaluation, Precision, RefinementRecord

_T = TypeVar("_T")


class Refinement(str, Enum):
    """What can be done to a network before it is searched; the value is its name in reports."""

    EQUALIZATION = "equalization"
    SMOOTHING = "smoothing"
    AWQ = "AWQ"
    CALIBRATION = "calibration"
    WEIGHT_SCALES = "weight scales"
    GPTQ = "GPTQ"
    ROUNDING = "learned rounding"
    BIAS_CORRECTION = "bias correction"
    FOR_PLAN = "for the chosen plan"


_WEIGHTS = "weight", "weights"
_OF_VALUES = {
    Refinement.WEIGHT_SCALES: (*_WEIGHTS, "clipped"),
    Refinement.GPTQ: (*_WEIGHTS, "rounded"),
    Refinement.ROUNDING: (*_WEIGHTS, "rounded"),
    Refinement.BIAS_CORRECTION: ("bias", "biases", "corrected"),
}
"""What is changed for a format, one and many, and what is said to be done to it."""


_RESCALED = {
    Refinement.EQUALIZATION: ("pair of layers", "pairs of layers", "rescaled"),
    Refinement.SMOOTHING: ("tensor", "tensors", "smoothed"),
    Refinement.AWQ: ("tensor", "tensors", "scaled"),
}  # fmt: skip
"""What is rescaled in the model, one and many, and what is said to be done to it."""


def records_of_model(
    name: Refinement,
    before: Mapping[Precision, float],
    after: Mapping[Precision, float],
    changed: int,
    left: Mapping[str, str],
    *,
    chosen: bool = False,
) -> Iterator[RefinementRecord]:
    """What rescaling `changed` parts of the model did to the uniform plan of every format.

    Args:
        name: The step.
        before: Scores of the uniform plans without it, by format.
        after: The same with it.
        changed: How many parts were rescaled.
        left: Those that were not, each with the reason.
        chosen: Whether it stays only where it does no harm, see `stays_for_all`.
    """
    one, many, done = _RESCALED[name]
    what = f"{changed} {one if changed == 1 else many} {done}" if changed else f"no {one} can be {done}"
    reasons = (f"{count} left: {reason}" for reason, count in Counter(left.values()).most_common())
    detail = "; ".join((what, *reasons))
    fault = ""
    if chosen and changed:
        fell = "the score fell" if len(before) == 1 else "the scores of all formats fell in sum"
        fault = "" if stays_for_all(before, after) else fell
        detail = f"{detail}, {_verdict(fault)}"
    for precision, score in before.items():
        yield RefinementRecord(name.value, precision, score, after[precision], detail, kept=not fault)


def stays_for_all(before: Mapping[Precision, float], after: Mapping[Precision, float]) -> bool:
    """Whether what all formats share does their uniform plans no harm: the sum of the scores is no less with it."""
    return sum(after.values()) >= sum(before.values())


def record_of_calibration(
    precision: Precision,
    method: str,
    scores: Mapping[str, float | None],
    tensors: Mapping[str, int],
    *,
    mixed: bool,
) -> RefinementRecord:
    """What choosing `method` did to the uniform plan, against the first that was tried; `mixed` plans may decide.

    Args:
        precision: The format.
        method: What was chosen.
        scores: Of the uniform plan by every method that was tried, None where less than every sample told that it
            misses.
        tensors: How many tensors have each method, where these differ.
        mixed: Whether plans of half the groups decided.
    """
    own = ", ".join(f"{count} {name}" for name, count in sorted(tensors.items(), key=lambda item: -item[1]))
    detail = f"{method}: {own}" if own else method
    detail = f"{detail}, best with half of the groups lowered" if mixed else detail
    if others := ", ".join(other for other in scores if other != method):
        detail = f"{detail}; tried {others} too"
    before, after = next(iter(scores.values()), None), scores.get(method)
    return RefinementRecord(Refinement.CALIBRATION.value, precision, None if after is None else before, after, detail)


def record_of_values(
    name: Refinement,
    precision: Precision,
    before: float | None,
    after: float,
    values: Collection[tuple[str, Precision]],
    *,
    loses_target: bool = False,
) -> RefinementRecord:
    """What corrections of biases or roundings of weights did to the uniform `precision` plan; see `worth_keeping`.

    `before` is None where nobody had to know what it scores without. With `loses_target` the plan and its file keep the
    target without, and one of them misses it with.
    """
    count = sum(own is precision for _, own in values)
    one, many, done = _OF_VALUES[name]
    what = f"{count} {one if count == 1 else many} {done}"
    fault = "the file would miss the target" if loses_target else _fall(before, after)
    return RefinementRecord(name.value, precision, before, after, f"{what}, {_verdict(fault)}", kept=not fault)


def record_of_plan(found: Evaluation, refined: Refined) -> RefinementRecord:
    """What refinement for exactly the plan that was `found` came to."""
    before, after = found.score.value, refined.refined_score
    anew = "weights rounded and biases corrected anew" if refined.rounded else "biases corrected anew"
    fault = "" if after is None else _fall(before, after)
    verdict = "the plan is uniform" if after is None else f"{anew}, {_verdict(fault)}"
    groups = _counted(len(refined.rescued), "group")
    saved = f"; {groups} more lowered, in {_counted(refined.attempts, 'attempt')}" if refined.attempts else ""
    detail = f"{verdict}{saved}"
    return RefinementRecord(Refinement.FOR_PLAN.value, None, before, refined.chosen.score.value, detail, kept=not fault)


def worth_keeping(
    values: Mapping[tuple[str, Precision], _T], records: Iterable[RefinementRecord]
) -> dict[tuple[str, Precision], _T]:
    """Those of the `values` that are for precisions which keep them, as the `records` say."""
    hurt = {record.precision for record in records if not record.kept}
    return {key: value for key, value in values.items() if key[1] not in hurt}


def _fall(before: float | None, after: float) -> str:
    """What is wrong with a score that is lower than before; empty if it is not, or nobody knows."""
    return "the score fell" if before is not None and after < before else ""


def _verdict(fault: str) -> str:
    return f"dropped because {fault}" if fault else "kept"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
