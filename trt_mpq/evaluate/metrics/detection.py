"""Mean average precision of a detector's boxes, as COCO defines it (Lin et al., 2014).

Labels are [n, k, 5]: class and box, x1 y1 x2 y2, in the unit of the decoded boxes; a negative class is padding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics.base import TaskMetric
from trt_mpq.evaluate.metrics.boxes import Boxes, Decoder, decoder_of
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.coco import average_precision, require_pycocotools
from trt_mpq.types import Score, TensorSpec

_THRESHOLDS = {"map50": (0.5,), "map50-95": tuple(np.linspace(0.5, 0.95, 10))}


class _BoxAccumulator:
    """Keeps the boxes of every image, found and true."""

    numbers = None

    def __init__(self, name: str, decode: Decoder) -> None:
        self._name, self._decode = name, decode
        self._found: list[Boxes] = []
        self._truths: list[Boxes] = []

    def add(self, outputs: Arrays, labels: Array | None, reference: Arrays | None) -> None:
        """Decode a batch."""
        self._truths += _true_boxes(self._name, labels)
        self._found += [np.nan_to_num(boxes) for boxes in self._decode(outputs)]

    def result(self, order: NDArray[np.intp] | None = None) -> Score:
        """The mean average precision; in the order of the data, as boxes of one score are ranked by it."""
        if not self._truths:
            raise MetricError(f"metric {self._name} has no sample to score: provide evaluation data")
        numbers = range(len(self._truths)) if order is None else order
        truths, found = ([boxes[number] for number in numbers] for boxes in (self._truths, self._found))
        return Score(average_precision(truths, found, _THRESHOLDS[self._name]), None, len(truths))


def detection_metric(name: str, outputs: tuple[TensorSpec, ...], decode: str | None) -> TaskMetric:
    """The metric called `name`, a key of the thresholds, of boxes that are decoded as `decode` says.

    Raises:
        MetricError: There is no such decoder.
        MissingDependencyError: pycocotools is not installed.
    """
    require_pycocotools()
    decoder = decoder_of(decode)
    return TaskMetric(name, True, False, lambda: _BoxAccumulator(name, decoder))


def _true_boxes(name: str, labels: Array | None) -> list[Boxes]:
    if labels is None or labels.dtype.kind not in "fiu" or labels.ndim != 3 or labels.shape[2] != 5:
        found = "none" if labels is None else f"{labels.dtype} of shape {list(labels.shape)}"
        raise MetricError(
            f"metric {name} needs labels [n, boxes, 5] of class, x1, y1, x2, y2, padded with class -1, found {found}"
        )
    rows = labels.astype(np.float64)
    return [boxes[boxes[:, 0] >= 0] for boxes in rows]
