"""Extractive question answering: is the span of tokens that a model points at one of the right ones?

SQuAD's `exact match` and `F1` (Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016,
section 6.1): per question the best over its gold answers, then the mean. Labels decide what is compared:

- Texts (`squad.py`): normalized words, as SQuAD's own script does.
- Positions, where there are no texts: first and last (both included) of the answer, integers [N, 2], or of several gold
  answers [N, golds, 2], where unused ones are negative. Positions stand for the words, so an answer counts where it is
  marked, not wherever the same words stand. "No answer" is a span like any other: SQuAD 2 models point at position 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics import squad
from trt_mpq.evaluate.metrics.base import Scores, TaskMetric, mean_metric
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import TensorSpec

_LONGEST = 30
"""Tokens of the longest answer considered, the limit that BERT's run_squad.py set."""


_Positions = NDArray[np.int64]


def span_metric(name: str, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    """`exact-match` or `f1` of the span with the highest start score + end score.

    The model has two outputs [N, positions], start and end scores: the one with "end" in its name is the latter, or
    the second if neither or both have.

    Raises:
        MetricError: The model has other outputs.
    """
    if len(outputs) != 2 or any(len(spec.shape) != 2 for spec in outputs):
        listed = ", ".join(f"{spec.name!r} {list(spec.shape)}" for spec in outputs)
        raise MetricError(
            f"metric {name} needs two outputs [N, positions], start and end scores, and the model has {listed}: use "
            "module:function"
        )
    start, end = sorted((spec.name for spec in outputs), key=lambda output: "end" in output.lower())
    overlap = {"exact-match": _equal, "f1": _f1}[name]
    text_overlap = {"exact-match": squad.exact_match, "f1": squad.word_f1}[name]

    def score(batch: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        if labels is not None and labels.dtype.names is not None:
            return squad.text_scores(name, labels, batch[start], batch[end], best_spans, text_overlap)
        golds = _golds(name, labels, batch[start].shape)
        found = best_spans(batch[start], batch[end])
        scores = np.max(np.where(golds[..., 0] >= 0, overlap(found[:, None], golds), 0.0), axis=1)
        return np.where(found[:, 0] >= 0, scores, 0.0)

    return mean_metric(name, score, needs_labels=True)


def best_spans(start: Array, end: Array) -> _Positions:
    """First and last position [n, 2] of the span of at most 30 tokens with the highest start + end score.

    Ties go to the shorter, then to the earlier span. Rows with NaN, or without a finite sum, have none, (-1, -1).

    Args:
        start: Scores [n, positions] of a span to begin at a position.
        end: Scores [n, positions] of a span to end at a position.
    """
    rows, positions = start.shape
    best = np.full(rows, -np.inf)
    spans = np.full((rows, 2), -1)
    for longer in range(min(_LONGEST, positions)):
        sums = start[:, : positions - longer].astype(np.float64) + end[:, longer:]
        first = np.argmax(sums, axis=1)
        highest = sums[np.arange(rows), first]
        better = highest > best
        best[better] = highest[better]
        spans[better] = np.stack([first, first + longer], axis=1)[better]
    spans[np.isnan(start).any(axis=1) | np.isnan(end).any(axis=1)] = -1
    return spans


def _golds(metric: str, labels: Array | None, shape: tuple[int, ...]) -> _Positions:
    """Gold spans [n, golds, 2], checked against scores of `shape` [n, positions]."""
    samples, positions = shape
    fits = labels is not None and labels.dtype.kind in "iu" and labels.shape[0] == samples
    if labels is None or not fits or labels.ndim not in (2, 3) or labels.shape[-1] != 2:
        found = "none" if labels is None else f"{labels.dtype} of shape {labels.shape}"
        raise MetricError(
            f"metric {metric} needs the first and last token of the answer as integer labels [{samples}, 2] or "
            f"[{samples}, golds, 2], found {found}: correct the labels"
        )
    golds = labels.reshape(samples, -1, 2).astype(np.int64)
    used = golds[..., 0] >= 0
    if not used.any(axis=1).all() or np.any(golds[used][:, 1] < golds[used][:, 0]) or np.any(golds[used] >= positions):
        raise MetricError(
            f"metric {metric}: every sample needs a gold answer from a first to a last token within the {positions} "
            "positions of the model's outputs: correct the labels"
        )
    return golds


def _equal(found: _Positions, golds: _Positions) -> Scores:
    return np.asarray(np.all(found == golds, axis=-1), np.float64)


def _f1(found: _Positions, golds: _Positions) -> Scores:
    """Harmonic mean of precision and recall of the positions: 2 x common / (found + gold)."""
    common = np.minimum(found[..., 1], golds[..., 1]) - np.maximum(found[..., 0], golds[..., 0]) + 1
    sizes = (found[..., 1] - found[..., 0] + 1) + (golds[..., 1] - golds[..., 0] + 1)
    return np.asarray(2 * np.maximum(common, 0) / sizes)
