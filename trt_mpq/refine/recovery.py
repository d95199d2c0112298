"""What each refinement recovered: the score of every uniform plan without and with it."""

from __future__ import annotations

from collections.abc import Iterable

from trt_mpq.emit import BiasCorrections
from trt_mpq.report.data import RefinementRecord
from trt_mpq.types import Precision

EQUALIZATION, SMOOTHING, BIAS_CORRECTION = "equalization", "smoothing", "bias correction"


def equalization_record(precision: Precision, before: float, after: float, pairs: int) -> RefinementRecord:
    """What rescaling `pairs` of layers did to the uniform `precision` plan; it stays, because it was asked for."""
    detail = f"{_counted(pairs, 'pair')} of layers rescaled" if pairs else "no pair of layers can be rescaled"
    return RefinementRecord(EQUALIZATION, precision, before, after, detail)


def smoothing_record(precision: Precision, before: float, after: float, tensors: int) -> RefinementRecord:
    """What smoothing `tensors` did to the uniform `precision` plan; it stays, because it was asked for."""
    detail = f"{_counted(tensors, 'tensor')} smoothed" if tensors else "no tensor can be smoothed"
    return RefinementRecord(SMOOTHING, precision, before, after, detail)


def bias_correction_record(
    precision: Precision, before: float, after: float, corrections: BiasCorrections
) -> RefinementRecord:
    """What `corrections` did to the uniform `precision` plan, and whether they stay."""
    groups = sum(corrected is precision for _, corrected in corrections)
    verdict = "dropped because the score fell" if after < before else "kept"
    return RefinementRecord(
        BIAS_CORRECTION, precision, before, after, f"{_counted(groups, 'group')} corrected, {verdict}"
    )


def worth_keeping(corrections: BiasCorrections, records: Iterable[RefinementRecord]) -> BiasCorrections:
    """The corrections of the precisions whose uniform plan they do not hurt."""
    hurt = {record.precision for record in records if record.name == BIAS_CORRECTION and _fell(record)}
    return {key: delta for key, delta in corrections.items() if key[1] not in hurt}


def _fell(record: RefinementRecord) -> bool:
    return record.before is not None and record.after is not None and record.after < record.before


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
