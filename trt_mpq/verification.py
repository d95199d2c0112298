"""The files that are delivered, scored as they lie on disk: what counts is them, not the plan that was searched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from trt_mpq.errors import RuntimeFailure
from trt_mpq.evaluate import Scorer
from trt_mpq.observer import Progress
from trt_mpq.types import Score

_NAMES = ("reference", "typed")
_ROUNDING = 1e-6
"""Relative: less than one sample in a million, more than what another batch does to the last bits of a product."""


def delivered_scores(scorer: Scorer, folder: Path, progress: Progress) -> dict[str, Score]:
    """Scores of reference.onnx and typed.onnx in `folder`; raises RuntimeFailure if one does not run."""
    scores = {}
    for i, name in enumerate(_NAMES):
        scores[name] = scorer.score(folder / f"{name}.onnx")
        progress(i + 1, len(_NAMES))
    return scores


def require_equal(delivered: Mapping[str, Score], searched: Score, folder: Path) -> None:
    """Refuse a reference.onnx that does not score what the search measured, but for the rounding of sums.

    Raises:
        RuntimeFailure: The scores differ.
    """
    found = delivered["reference"].value
    if not math.isclose(found, searched.value, rel_tol=_ROUNDING):
        raise RuntimeFailure(
            f"reference.onnx scores {found:.6g} and the search measured {searched.value:.6g} for the same plan, "
            f"perhaps on another machine: delete {folder} and run again"
        )
