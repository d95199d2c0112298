"""COCO's average precision of boxes, by pycocotools, which is what published figures were computed with."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import missing

_Boxes = NDArray[np.float64]


def require_pycocotools() -> None:
    """Raise MissingDependencyError if pycocotools is not installed."""
    _evaluator()


def average_precision(
    truths: Sequence[_Boxes], found: Sequence[_Boxes], thresholds: Sequence[float], most: int = 100
) -> float:
    """Mean over classes and `thresholds` of intersection over union of the average precision; 0 without any truth.

    Args:
        truths: Per image [k, 5]: class and box, x1 y1 x2 y2.
        found: Per image [k, 6]: class, box, score; in the same unit as the truths.
        thresholds: Least intersections over unions of a match.
        most: Boxes per image that count, best first.
    """
    coco, evaluator = _evaluator()
    images = [{"id": number} for number in range(len(truths))]
    rows = [_annotation(number, row) for number, boxes in enumerate(truths) for row in boxes]
    classes = sorted({row["category_id"] for row in rows})
    guesses = [
        {**_annotation(number, row[:5]), "score": float(row[5])}
        for number, boxes in enumerate(found)
        for row in boxes
        if int(row[0]) in classes
    ]
    if not rows or not guesses:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it prints tables
        of_truth, of_guesses = coco(), coco()
        for index, annotations in ((of_truth, rows), (of_guesses, guesses)):
            numbered = [{**one, "id": number + 1} for number, one in enumerate(annotations)]
            categories = [{"id": name} for name in classes]
            index.dataset = {"images": images, "annotations": numbered, "categories": categories}
            index.createIndex()
        judged = evaluator(of_truth, of_guesses, "bbox")
        judged.params.iouThrs = np.asarray(thresholds)
        judged.params.maxDets = [most]
        judged.params.areaRng, judged.params.areaRngLbl = [[0.0, float("inf")]], ["all"]
        judged.evaluate()
        judged.accumulate()
    precision = judged.eval["precision"]
    known = precision[precision > -1]
    return float(known.mean()) if known.size else 0.0


def _annotation(image: int, row: _Boxes) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in row[1:5])
    width, height = right - left, bottom - top
    return {
        "image_id": image, "category_id": int(row[0]), "bbox": [left, top, width, height], "area": width * height,
        "iscrowd": 0,
    }  # fmt: skip


def _evaluator() -> tuple[Any, Any]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise missing("pycocotools", "the metrics map50 and map50-95", "detection") from error
    return COCO, COCOeval
