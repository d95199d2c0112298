"""What refinement recovered, and which corrections stay."""

from __future__ import annotations

import numpy as np
import pytest

from trt_mpq.refine.recovery import Refinement, record_of_model, record_of_values, worth_keeping
from trt_mpq.types import Precision, RefinementRecord

INT8, FP8 = Precision.INT8, Precision.FP8
CORRECTIONS = {("a", INT8): np.ones(2), ("b", INT8): np.ones(2), ("a", FP8): np.ones(2)}


def correction(precision: Precision, before: float, after: float) -> RefinementRecord:
    return record_of_values(Refinement.BIAS_CORRECTION, precision, before, after, CORRECTIONS)


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        (0.8, 0.9, "2 groups corrected, kept"),
        (0.8, 0.8, "2 groups corrected, kept"),
        (0.8, 0.79, "2 groups corrected, dropped because the score fell"),
    ],
)
def test_a_record_says_what_happens_to_the_corrections(before, after, detail):
    record = correction(INT8, before, after)
    assert (record.before, record.after, record.detail) == (before, after, detail)
    assert (record.name, record.precision) == ("bias correction", INT8)
    rounded = record_of_values(Refinement.ROUNDING, INT8, before, after, CORRECTIONS)
    assert (rounded.name, rounded.detail) == ("learned rounding", detail.replace("groups corrected", "weights rounded"))


def test_only_the_precision_that_is_hurt_loses_its_corrections():
    records = [correction(INT8, 0.8, 0.9), correction(FP8, 0.8, 0.7)]
    assert worth_keeping(CORRECTIONS, records).keys() == {("a", INT8), ("b", INT8)}
    assert worth_keeping(CORRECTIONS, records[:1]) == CORRECTIONS


@pytest.mark.parametrize(
    ("pairs", "detail"),
    [(0, "no pair of layers can be rescaled"), (1, "1 pair of layers rescaled"), (9, "9 pairs of layers rescaled")],
)
def test_equalization_says_how_much_it_did(pairs, detail):
    assert record_of_model(Refinement.EQUALIZATION, INT8, 0.5, 0.6, pairs, {}).detail == detail


@pytest.mark.parametrize(
    ("tensors", "detail"),
    [(0, "no tensor can be smoothed"), (1, "1 tensor smoothed"), (9, "9 tensors smoothed")],
)
def test_smoothing_says_how_much_it_did(tensors, detail):
    assert record_of_model(Refinement.SMOOTHING, INT8, 0.5, 0.6, tensors, {}).detail == detail


def test_what_was_not_rescaled_is_counted_by_reason() -> None:
    left = {"a": "Add reads it too", "b": "no scales lose less", "c": "Add reads it too"}
    detail = record_of_model(Refinement.AWQ, Precision.W4A16, 0.5, 0.6, 4, left).detail
    assert detail == "4 tensors scaled; 2 left: Add reads it too; 1 left: no scales lose less"
