"""Data that cannot be what was meant: each fault in one sentence, with its likely cause."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trt_mpq.dataset import Samples
from trt_mpq.dataset.steps import rows_first
from trt_mpq.evaluate.metrics import TaskMetric
from trt_mpq.evaluate.score_scale import score_texts
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import Score

_LOOKED_AT = 64
"""Samples of each set that are compared."""
_FAR = 4.0
"""Deviations between two means, or ratio of two deviations, that no two draws of one kind of data differ by."""
_ANSWERS = {"top1": 1, "accuracy": 1, "top5": 5}
"""Metrics of right answers, and how many a model has for each label."""


def score_faults(metric: TaskMetric, fp32: Score, samples: Samples) -> Iterator[str]:
    """What is wrong with an FP32 score that a model reaches without having learned anything."""
    guesses, labels = _ANSWERS.get(metric.name), samples.labels
    if guesses is not None and labels is not None and labels.ndim == 1:
        counts = np.sort(np.unique(labels[: samples.count], return_counts=True)[1])[::-1]
        chance = float(counts[:guesses].sum() / counts.sum())
        if len(counts) > guesses and fp32.value <= chance + 2 * (fp32.stderr or 0.0):
            scored, luck = score_texts(metric.name, (fp32.value, chance))
            yield (
                f"FP32 scores {scored} by {metric.name}, no better than always giving the most frequent answer "
                f"({luck}): check preprocessing, labels and the order of the classes"
            )
    if metric.name in ("spearman", "pearson") and abs(fp32.value) < 2 / np.sqrt(samples.count):
        (scored,) = score_texts(metric.name, (fp32.value,))
        yield (
            f"FP32 scores {scored} by {metric.name}, which is no correlation on {samples.count} samples: check "
            "preprocessing and labels"
        )


def output_faults(inputs: Arrays, outputs: Arrays) -> Iterator[str]:
    """Whether all outputs [n, ...] of FP32 are the same for samples [n, ...] that are not."""
    if _count(inputs) > 1 and not _all_same(inputs) and _all_same(outputs):
        yield f"FP32 gives the same outputs for {_count(inputs)} different samples: check the model and its inputs"


def _all_same(arrays: Arrays) -> bool:
    return all(values.ndim > 0 and bool((values == values[:1]).all()) for values in arrays.values())


def data_faults(calibration: Samples, evaluation: Samples) -> Iterator[str]:
    """How calibration and evaluation data differ though they should not, or agree though they should not."""
    calib, held = (_leading(samples) for samples in (calibration, evaluation))
    for name, values in calib.items():
        if values.dtype.kind == "f" and name in held:
            yield from _far_apart(name, values, held[name])
    rows = [{_key(values, row) for row in range(_count(values))} for values in (calib, held)]
    if common := len(rows[0] & rows[1]):
        yield (
            f"{common} of the first {_count(held)} evaluation samples are calibration samples too, which flatters "
            "plans: evaluate on others"
        )


def _far_apart(name: str, calib: Array, held: Array) -> Iterator[str]:
    means, widths = [float(x.mean()) for x in (calib, held)], [float(x.std()) for x in (calib, held)]
    narrow, wide = sorted(widths)
    if abs(means[0] - means[1]) > _FAR * wide or wide > _FAR * narrow:
        yield (
            f"input {name} is {means[0]:.3g} ± {widths[0]:.3g} in the calibration data and {means[1]:.3g} ± "
            f"{widths[1]:.3g} in the evaluation data: check that both are normalised alike"
        )


def _leading(samples: Samples) -> Arrays:
    """The first rows [n, ...] of every input that has its own for each."""
    batch = next(samples.single_rows().batches(_LOOKED_AT, limit=_LOOKED_AT))
    axes = {name: axis for name, axis in batch.axes.items() if axis is not None}
    return {name: rows_first(batch.feeds[name], axis) for name, axis in axes.items()}


def _count(feeds: Arrays) -> int:
    return len(next(iter(feeds.values())))


def _key(feeds: Arrays, row: int) -> tuple[bytes, ...]:
    return tuple(values[row].tobytes() for values in feeds.values())
