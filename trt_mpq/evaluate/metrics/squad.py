"""Answers as SQuAD compares them: normalized words of text.

The definition is that of Rajpurkar et al. 2016 (section 6.1) and of the script that came with the data.
Labels are one structured value per sample, with the fields

- `context`: the text that the answer is a part of;
- `offsets` [positions, 2]: first and last + 1 character in `context` that a position stands for; [0, 0] where it stands
  for none (question, separators, padding); [-1, -1] at position 0 lets a model answer that there is no answer, as
  SQuAD 2 does;
- `answers` [golds]: the right answers, unused ones empty; all empty where there is no answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics.base import Scores
from trt_mpq.runtime.base import Array

_FIELDS = ("context", "offsets", "answers")
"""Fields of a structured label."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def text_scores(
    metric: str,
    labels: Array,
    start: Array,
    end: Array,
    best_spans: Callable[[Array, Array], NDArray[np.int64]],
    overlap: Callable[[str, str], float],
) -> Scores:
    """`overlap` of the text each model output points at with the gold answer that it fits best, [n].

    Args:
        metric: The metric, for messages.
        labels: Structured labels [n].
        start: Scores [n, positions] of an answer to begin at a position.
        end: Scores [n, positions] of an answer to end at a position.
        best_spans: Such scores to the first and last position [n, 2] of the answer; (-1, -1) where there is none.
        overlap: How well a text fits a gold answer.

    Raises:
        MetricError: The labels lack a field, or do not fit the scores.
    """
    _check(metric, labels, start.shape)
    found = _answers(labels, start, end, best_spans)
    return np.array(
        [
            max(overlap(text, str(gold)) for gold in _golds(answers))
            for text, answers in zip(found, labels["answers"], strict=True)
        ]
    )


def exact_match(found: str, gold: str) -> float:
    """1 if the normalized texts are equal, else 0."""
    return float(_normalized(found) == _normalized(gold))


def word_f1(found: str, gold: str) -> float:
    """Harmonic mean of precision and recall of the normalized words; where one text has none, whether both have."""
    own, right = _normalized(found).split(), _normalized(gold).split()
    if not own or not right:
        return float(own == right)
    common = sum((Counter(own) & Counter(right)).values())
    return 2 * common / (len(own) + len(right))


def _normalized(text: str) -> str:
    """Lower case, without punctuation, articles and repeated white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _check(metric: str, labels: Array, shape: tuple[int, ...]) -> None:
    """Raise MetricError unless structured labels [n] have all fields for scores of `shape` [n, positions]."""
    samples, positions = shape
    missing = [name for name in _FIELDS if name not in (labels.dtype.names or ())]
    if missing or labels.shape != (samples,):
        raise MetricError(
            f"metric {metric} needs structured labels [{samples}] with the fields {', '.join(_FIELDS)}, found "
            f"{labels.dtype.names} of shape {labels.shape}: correct the labels"
        )
    offsets = labels["offsets"]
    if offsets.dtype.kind not in "iu" or offsets.ndim != 3 or offsets.shape[1] < positions or offsets.shape[2] != 2:
        raise MetricError(
            f"metric {metric} needs integer `offsets` [{samples}, {positions}, 2], the characters of every position, "
            f"found {offsets.dtype} of shape {offsets.shape}: correct the labels"
        )
    if labels["context"].dtype.kind != "U" or labels["answers"].dtype.kind != "U" or labels["answers"].ndim != 2:
        raise MetricError(
            f"metric {metric} needs `context` [{samples}] and `answers` [{samples}, golds] as text, found "
            f"{labels['context'].dtype} and {labels['answers'].dtype} of shape {labels['answers'].shape}: correct the "
            "labels"
        )


def _answers(
    labels: Array, start: Array, end: Array, best_spans: Callable[[Array, Array], NDArray[np.int64]]
) -> list[str]:
    """The text each model output points at, the empty one for "no answer"."""
    offsets = labels["offsets"][:, : start.shape[1]]
    inside = offsets[..., 1] > offsets[..., 0]
    sealed = [np.where(inside | np.isnan(scores), scores, -np.inf) for scores in (start, end)]
    spans = best_spans(*sealed)
    return [
        "" if first < 0 or _prefers_none(labels[row], start[row], end[row], first, last)
        else str(labels["context"][row])[offsets[row, first, 0] : offsets[row, last, 1]]
        for row, (first, last) in enumerate(spans)
    ]  # fmt: skip


def _prefers_none(label: NDArray[np.void], start: Array, end: Array, first: int, last: int) -> bool:
    """Whether "no answer", where it may be given, scores higher than the best span."""
    allowed = bool(np.all(label["offsets"][0] < 0))
    return allowed and float(start[0]) + float(end[0]) > float(start[first]) + float(end[last])


def _golds(answers: Array) -> list[str]:
    return [str(text) for text in answers if text] or [""]
