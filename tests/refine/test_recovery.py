"""What refinement recovered, and which corrections stay."""

from __future__ import annotations

import numpy as np
import pytest

from trt_mpq.refine.recovery import Refinement, record_of_values, records_of_model, stays_for_all, worth_keeping
from trt_mpq.types import Precision, RefinementRecord

INT8, FP8 = Precision.INT8, Precision.FP8
CORRECTIONS = {("a", INT8): np.ones(2), ("b", INT8): np.ones(2), ("a", FP8): np.ones(2)}


def correction(precision: Precision, before: float, after: float) -> RefinementRecord:
    return record_of_values(Refinement.BIAS_CORRECTION, precision, before, after, CORRECTIONS)


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        (0.8, 0.9, "2 biases corrected, kept"),
        (0.8, 0.8, "2 biases corrected, kept"),
        (0.8, 0.79, "2 biases corrected, dropped because the score fell"),
    ],
)
def test_a_record_says_what_happens_to_the_corrections(before, after, detail):
    record = correction(INT8, before, after)
    assert (record.before, record.after, record.detail) == (before, after, detail)
    assert (record.name, record.precision) == ("bias correction", INT8)
    rounded = record_of_values(Refinement.ROUNDING, INT8, before, after, CORRECTIONS)
    assert (rounded.name, rounded.detail) == ("learned rounding", detail.replace("biases corrected", "weights rounded"))


def test_only_the_precision_that_is_hurt_loses_its_corrections():
    records = [correction(INT8, 0.8, 0.9), correction(FP8, 0.8, 0.7)]
    assert worth_keeping(CORRECTIONS, records).keys() == {("a", INT8), ("b", INT8)}
    assert worth_keeping(CORRECTIONS, records[:1]) == CORRECTIONS


def test_corrections_go_that_raise_the_score_and_lose_the_target():
    record = record_of_values(Refinement.BIAS_CORRECTION, INT8, 0.8, 0.9, CORRECTIONS, loses_target=True)
    assert record.detail == "2 biases corrected, dropped because the file would miss the target"
    assert worth_keeping(CORRECTIONS, [record]).keys() == {("a", FP8)}


def told(name: Refinement, changed: int, left: dict[str, str]) -> str:
    """The detail of the only record of a step that nobody chooses."""
    (record,) = records_of_model(name, {INT8: 0.5}, {INT8: 0.6}, changed, left)
    assert (record.name, record.precision, record.before, record.after) == (name.value, INT8, 0.5, 0.6)
    return record.detail


@pytest.mark.parametrize(
    ("pairs", "detail"),
    [(0, "no pair of layers can be rescaled"), (1, "1 pair of layers rescaled"), (9, "9 pairs of layers rescaled")],
)
def test_equalization_says_how_much_it_did(pairs, detail):
    assert told(Refinement.EQUALIZATION, pairs, {}) == detail


@pytest.mark.parametrize(
    ("tensors", "detail"),
    [(0, "no tensor can be smoothed"), (1, "1 tensor smoothed"), (9, "9 tensors smoothed")],
)
def test_smoothing_says_how_much_it_did(tensors, detail):
    assert told(Refinement.SMOOTHING, tensors, {}) == detail


def test_what_was_not_rescaled_is_counted_by_reason() -> None:
    left = {"a": "Add reads it too", "b": "no scales lose less", "c": "Add reads it too"}
    detail = told(Refinement.AWQ, 4, left)
    assert detail == "4 tensors scaled; 2 left: Add reads it too; 1 left: no scales lose less"


@pytest.mark.parametrize(
    ("before", "after", "stays", "verdict"),
    [
        ({INT8: 0.8}, {INT8: 0.8}, True, "kept"),
        ({INT8: 0.8}, {INT8: 0.7}, False, "dropped because the score fell"),
        ({INT8: 0.8, FP8: 0.9}, {INT8: 0.7, FP8: 1.1}, True, "kept"),
        ({INT8: 0.8, FP8: 0.9}, {INT8: 0.9, FP8: 0.7}, False, "dropped because the scores of all formats fell in sum"),
        ({INT8: -3.0}, {INT8: -3.5}, False, "dropped because the score fell"),  # a log-likelihood
    ],
)
def test_what_all_formats_share_stays_where_their_scores_do_not_fall_in_sum(before, after, stays, verdict):
    assert stays_for_all(before, after) is stays
    records = list(records_of_model(Refinement.AWQ, before, after, 1, {}, chosen=True))
    assert [(r.precision, r.before, r.after) for r in records] == [(p, before[p], after[p]) for p in before]
    assert {record.detail for record in records} == {f"1 tensor scaled, {verdict}"}


def test_nothing_is_said_to_be_kept_where_nothing_was_changed() -> None:
    (record,) = records_of_model(Refinement.AWQ, {INT8: 0.8}, {INT8: 0.8}, 0, {}, chosen=True)
    assert record.detail == "no tensor can be scaled"
