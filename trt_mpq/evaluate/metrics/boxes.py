"""From a detector's outputs to boxes: conventions by name, or the user's own function.

A decoded image is an array [k, 6] of class, box as x1 y1 x2 y2, and score. Intersection over union does not depend on
the unit of boxes, so labels have that of the outputs: pixels of the input for yolov8, fractions of the image for detr
and ssd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.losses import log_softmax
from trt_mpq.evaluate.metrics.decoders import users_decoder
from trt_mpq.runtime.base import Array, Arrays

Boxes = NDArray[np.float64]
Decoder = Callable[[Arrays], list[Boxes]]
"""Outputs [n, ...] by name to the boxes of every image."""
_LEAST_SCORE = 1e-3
_OVERLAP = 0.7
"""Ultralytics' settings for validation."""
_CANDIDATES, _MOST = 1000, 300


def decoder_of(name: str | None) -> Decoder:
    """The decoder called `name`, or the user's own `module:function`; raises MetricError."""
    if name in _CONVENTIONS:
        return _CONVENTIONS[name]
    if name is None or ":" not in name:
        found = "nothing was named" if name is None else f"{name!r} is none"
        raise MetricError(
            f"boxes need a convention and {found}: pass --decode with one of {', '.join(_CONVENTIONS)}, or with your "
            "own module:function from outputs by name to a list of arrays [k, 6]: class, x1, y1, x2, y2, score"
        )
    return users_decoder(name, _of_user, "boxes of {found} images and was given {wanted}")


def _of_user(boxes: Any) -> Boxes:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 6)


def _yolov8(outputs: Arrays) -> list[Boxes]:
    """[N, 4 + classes, anchors] with centre, size and class scores, as Ultralytics exports YOLOv8, 9, 11 and 12."""
    [heads] = _outputs(outputs, "yolov8", 1)
    if heads.ndim != 3 or heads.shape[1] < 5:
        raise MetricError(f"--decode yolov8 reads [N, 4 + classes, anchors] and the output is {list(heads.shape)}")
    rows = heads.astype(np.float64).transpose(0, 2, 1)
    return [_suppressed(_corners(image[:, :4]), image[:, 4:], first=0) for image in rows]


def _detr(outputs: Arrays) -> list[Boxes]:
    """Class logits [N, queries, classes + 1], the last for nothing, and boxes [N, queries, 4], centre and size."""
    boxes, logits = _boxes_and_scores(outputs, "detr")
    scores = np.exp(log_softmax(logits))[..., :-1]
    best, own = scores.argmax(-1), scores.max(-1)
    return [
        np.column_stack([best[i], _corners(boxes[i]), own[i]])[np.argsort(-own[i], kind="stable")[:_MOST]]
        for i in range(len(boxes))
    ]


def _ssd(outputs: Arrays) -> list[Boxes]:
    """Boxes [N, anchors, 4] as x1 y1 x2 y2 and class scores [N, anchors, classes], the first for background."""
    boxes, scores = _boxes_and_scores(outputs, "ssd")
    return [_suppressed(own, of[:, 1:], first=1) for own, of in zip(boxes, scores, strict=True)]


_CONVENTIONS: dict[str, Decoder] = {"yolov8": _yolov8, "detr": _detr, "ssd": _ssd}


def _outputs(outputs: Arrays, convention: str, count: int) -> list[Array]:
    if len(outputs) != count:
        raise MetricError(
            f"--decode {convention} reads {count} outputs and there are {len(outputs)} ({', '.join(outputs)}): name "
            "those that count with --outputs, or decode with your own module:function"
        )
    return list(outputs.values())


def _boxes_and_scores(outputs: Arrays, convention: str) -> tuple[Boxes, Boxes]:
    """The output of boxes, which has four columns, and the other; of two that have four, the one called so."""
    pair = _outputs(outputs, convention, 2)
    fits = [name for name, value in outputs.items() if value.ndim == 3 and value.shape[-1] == 4]
    called = [name for name in fits if "box" in name.lower() or "loc" in name.lower()]
    chosen = fits if len(fits) == 1 else called
    if len(chosen) != 1 or pair[0].shape[:2] != pair[1].shape[:2]:
        shapes = " and ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise MetricError(f"--decode {convention} reads boxes [N, k, 4] and scores [N, k, classes], and found {shapes}")
    [scores] = (value for name, value in outputs.items() if name != chosen[0])
    return outputs[chosen[0]].astype(np.float64), scores.astype(np.float64)


def _corners(boxes: Boxes) -> Boxes:
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _suppressed(boxes: Boxes, scores: Boxes, first: int) -> Boxes:
    """The best boxes [k, 6] of boxes [a, 4] and scores [a, classes], `first` being the number of the first class.

    Of boxes of one class that overlap the best remains (greedy non-maximum suppression).
    """
    anchors, classes = np.nonzero(scores > _LEAST_SCORE)
    own = scores[anchors, classes]
    order = np.argsort(-own, kind="stable")[:_CANDIDATES]
    rows = np.column_stack([classes[order] + first, boxes[anchors[order]], own[order]])
    kept: list[int] = []
    left = np.arange(len(rows))
    while len(left) and len(kept) < _MOST:
        best, left = left[0], left[1:]
        kept.append(int(best))
        rival = (rows[left, 0] == rows[best, 0]) & (_overlaps(rows[best, 1:5], rows[left, 1:5]) > _OVERLAP)
        left = left[~rival]
    return rows[kept]


def _overlaps(box: Boxes, others: Boxes) -> Boxes:
    """Intersections over unions of a box [4] with others [k, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - common
    return np.asarray(common / np.maximum(areas, np.finfo(np.float64).tiny))
