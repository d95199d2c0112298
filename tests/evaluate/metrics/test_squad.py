"""Answers as texts, with values worked out by hand from SQuAD's definition."""

from __future__ import annotations

import numpy as np
import pytest

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.metrics.squad import _normalized, exact_match, word_f1
from trt_mpq.types import Score, TensorSpec

OUTPUTS = (TensorSpec("start", "float32", ("b", "s")), TensorSpec("end", "float32", ("b", "s")))
CONTEXT = "The Denver Broncos beat the Carolina Panthers, 24-10, in 2016."
WORDS = ("The", "Denver", "Broncos", "beat", "the", "Carolina", "Panthers", "24-10", "in", "2016")
NOWHERE = 3
"""Positions of a question in front of the context."""


def labels(*golds: list[str], nullable: bool = False) -> np.ndarray:
    """Labels whose position `NOWHERE + i` is word i of the context."""
    offsets = np.zeros((NOWHERE + len(WORDS), 2), np.int32)
    at = 0
    for number, word in enumerate(WORDS):
        at = CONTEXT.index(word, at)
        offsets[NOWHERE + number] = at, at + len(word)
    if nullable:
        offsets[0] = -1
    width = max(len(answers) for answers in golds)
    kind = [("context", "U80"), ("offsets", np.int32, offsets.shape), ("answers", "U40", (width,))]
    rows = [(CONTEXT, offsets, [*answers, *[""] * (width - len(answers))]) for answers in golds]
    return np.array(rows, dtype=kind)


def pointing_at(*spans: tuple[int, int]) -> dict[str, np.ndarray]:
    start, end = np.zeros((2, len(spans), NOWHERE + len(WORDS)), np.float32)
    for row, (first, last) in enumerate(spans):
        start[row, first] = end[row, last] = 5.0
    return {"start": start, "end": end}


def score(name: str, outputs: dict[str, np.ndarray], gold: np.ndarray) -> Score:
    accumulator = metric_from_name(name, has_labels=True, outputs=OUTPUTS).accumulator()
    accumulator.add(outputs, gold, None)
    return accumulator.result()


def word(number: int) -> int:
    return NOWHERE + number


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The  Broncos!", "broncos"), ("an apple, a day", "apple day"), ("24-10", "2410"), ("theatre", "theatre")],
)
def test_normalization(text: str, expected: str) -> None:
    assert _normalized(text) == expected


def test_words_are_compared_as_a_bag() -> None:
    # Found 3 words (the article is dropped: 2), gold 3: 2 in common, 2 * 2 / (2 + 3).
    assert word_f1("the Denver Broncos", "Broncos of Denver") == pytest.approx(0.8)
    assert word_f1("yes yes", "yes") == pytest.approx(2 / 3)
    assert word_f1("", "") == 1.0
    assert word_f1("", "Denver") == 0.0
    assert exact_match("The Denver Broncos.", "denver broncos") == 1.0


def test_the_answer_is_the_text_of_the_span_and_the_best_gold_counts() -> None:
    outputs = pointing_at((word(0), word(2)), (word(1), word(2)), (word(4), word(6)))
    gold = labels(["Denver Broncos"], ["Broncos", "Denver"], ["Panthers"])
    assert score("exact-match", outputs, gold).value == pytest.approx(1 / 3)
    assert score("f1", outputs, gold).value == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_positions_outside_the_context_are_never_an_answer() -> None:
    outputs = pointing_at((1, 2))
    outputs["start"][0, word(9)] = outputs["end"][0, word(9)] = 1.0
    assert score("exact-match", outputs, labels(["2016"])).value == 1.0


def test_no_answer_where_it_may_be_given() -> None:
    outputs = pointing_at((0, 0), (0, 0), (word(9), word(9)))
    for scores in outputs.values():
        scores[:, word(1)] = 1.0
    gold = labels([""], ["2016"], ["2016"], nullable=True)
    assert score("exact-match", outputs, gold).value == pytest.approx(2 / 3)
    assert score("exact-match", outputs, labels([""], ["2016"], ["2016"])).value == pytest.approx(1 / 3)


def test_outputs_cut_to_their_length_read_the_offsets_they_have() -> None:
    outputs = {name: values[:, : word(4)] for name, values in pointing_at((word(1), word(2))).items()}
    assert score("exact-match", outputs, labels(["Denver Broncos"])).value == 1.0


def test_nan_finds_nothing() -> None:
    outputs = pointing_at((word(1), word(2)))
    outputs["end"][0, 7] = np.nan
    assert score("f1", outputs, labels(["Denver Broncos"])).value == 0.0


@pytest.mark.parametrize(
    ("field", "content", "message"),
    [
        ("answers", None, "fields context, offsets, answers"),
        ("offsets", np.zeros((1, 4, 2), np.int32), r"integer `offsets` \[1, 13, 2\]"),
        ("offsets", np.zeros((1, 13, 2)), "found float64"),
        ("answers", np.zeros((1, 2), np.int32), "as text"),
    ],
)
def test_labels_that_do_not_fit_are_refused(field: str, content: np.ndarray | None, message: str) -> None:
    gold = labels(["2016"])
    columns = {name: gold[name] for name in ("context", "offsets", "answers")} | {field: content}
    kept = {name: column for name, column in columns.items() if column is not None}
    changed = np.zeros(1, [(name, column.dtype, column.shape[1:]) for name, column in kept.items()])
    for name, column in kept.items():
        changed[name] = column
    with pytest.raises(MetricError, match=message):
        score("f1", pointing_at((word(1), word(2))), changed)
