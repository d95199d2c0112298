"""What each refinement recovered: the score of every uniform plan without and with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from trt_mpq.emit import BiasCorrections, Roundings
from trt_mpq.refine.for_plan import Refined
from trt_mpq.types import Evaluation, Precision, RefinementRecord

T = TypeVar("T")
EQUALIZATION, SMOOTHING, CALIBRATION, BIAS_CORRECTION = "equalization", "smoothing", "calibration", "bias correction"
LEARNED_ROUNDING, FOR_PLAN = "learned rounding", "for the chosen plan"


def equalization_record(precision: Precision, before: float, after: float, pairs: int) -> RefinementRecord:
    """What rescaling `pairs` of layers did to the uniform `precision` plan; it stays, because it was asked for."""
    detail = f"{_counted(pairs, 'pair')} of layers rescaled" if pairs else "no pair of layers can be rescaled"
    return RefinementRecord(EQUALIZATION, precision, before, after, detail)


def smoothing_record(precision: Precision, before: float, after: float, tensors: int) -> RefinementRecord:
    """What smoothing `tensors` did to the uniform `precision` plan; it stays, because it was asked for."""
    detail = f"{_counted(tensors, 'tensor')} smoothed" if tensors else "no tensor can be smoothed"
    return RefinementRecord(SMOOTHING, precision, before, after, detail)


def calibration_record(
    precision: Precision, before: float, after: float, method: str, tried: Sequence[str]
) -> RefinementRecord:
    """What choosing `method` did to the uniform `precision` plan, against the first that was `tried`."""
    others = ", ".join(other for other in tried if other != method)
    return RefinementRecord(CALIBRATION, precision, before, after, f"{method}; tried {others} too")


def bias_correction_record(
    precision: Precision, before: float, after: float, corrections: BiasCorrections
) -> RefinementRecord:
    """What `corrections` did to the uniform `precision` plan, and whether they stay."""
    groups = sum(corrected is precision for _, corrected in corrections)
    detail = f"{_counted(groups, 'group')} corrected, {_verdict(before, after)}"
    return RefinementRecord(BIAS_CORRECTION, precision, before, after, detail)


def rounding_record(precision: Precision, before: float, after: float, roundings: Roundings) -> RefinementRecord:
    """What `roundings` did to the uniform `precision` plan, and whether they stay."""
    weights = sum(rounded is precision for _, rounded in roundings)
    detail = f"{_counted(weights, 'weight')} rounded, {_verdict(before, after)}"
    return RefinementRecord(LEARNED_ROUNDING, precision, before, after, detail)


def plan_record(found: Evaluation, refined: Refined) -> RefinementRecord:
    """What refinement for exactly the plan that was `found` came to."""
    before, after = found.score.value, refined.refined_score
    anew = "weights rounded and biases corrected anew" if refined.rounded else "biases corrected anew"
    verdict = "the plan is uniform" if after is None else f"{anew}, {_verdict(before, after)}"
    groups = _counted(len(refined.rescued), "group")
    saved = f"; {groups} more lowered, in {_counted(refined.attempts, 'attempt')}" if refined.attempts else ""
    return RefinementRecord(FOR_PLAN, None, before, refined.chosen.score.value, f"{verdict}{saved}")


def worth_keeping(
    refined: Mapping[tuple[str, Precision], T], records: Iterable[RefinementRecord], name: str = BIAS_CORRECTION
) -> dict[tuple[str, Precision], T]:
    """What the refinement called `name` made for the precisions whose uniform plan it does not hurt."""
    hurt = {record.precision for record in records if record.name == name and _fell(record)}
    return {key: value for key, value in refined.items() if key[1] not in hurt}


def _verdict(before: float, after: float) -> str:
    return "dropped because the score fell" if after < before else "kept"


def _fell(record: RefinementRecord) -> bool:
    return record.before is not None and record.after is not None and record.after < record.before


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
