"""The files that are delivered, scored as they lie on disk: what counts is them, not the plan that was searched."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir

from trt_mpq.errors import RuntimeFailure
from trt_mpq.evaluate.score_cache import ScoreCache
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.model import model_digest
from trt_mpq.types import PrecisionPlan, Score
from trt_mpq.types.observer import Progress

_ROUNDING = 1e-6
"""Relative: less than one sample in a million, more than what another batch does to the last bits of a product."""


class TypedFiles:
    """Scores the typed files of plans, each content once: a file on disk that is what a search scored has that score.

    Args:
        strong: Gives the strong flavour of a plan.
        scorer: Scores graphs.
        cache: Scores already known.
    """

    def __init__(self, strong: Callable[[PrecisionPlan], ir.Model], scorer: Scorer, cache: ScoreCache) -> None:
        self._strong, self._scorer, self._cache = strong, scorer, cache
        self._keys: dict[PrecisionPlan, str] = {}

    def __call__(self, plan: PrecisionPlan) -> Score:
        """The score of the file of `plan`, which need not be written."""
        graph = self._strong(plan)
        key = self._keys[plan] = _key(_digest(graph))
        return self._cache.remember(key, lambda: self._scorer.score(graph)).score

    def on_disk(self, path: Path) -> Score:
        """The score of a typed file; raises RuntimeFailure if it does not run."""
        return self._cache.remember(_key(model_digest(path)), lambda: self._scorer.score(path)).score

    def seconds(self, plan: PrecisionPlan) -> float:
        """How long the file of `plan` was scored."""
        return self._cache.seconds(self._keys.get(plan) or _key(_digest(self._strong(plan))))


def _key(digest: str) -> str:
    return f"typed {digest}"


def _digest(graph: ir.Model) -> str:
    """The digest of the file that `graph` is written as, unless its weights lie beside it: then nothing is found."""
    return hashlib.sha256(ir.to_proto(graph).SerializeToString()).hexdigest()


def delivered_scores(scorer: Scorer, files: TypedFiles, folder: Path, progress: Progress) -> dict[str, Score]:
    """Scores of reference.onnx and typed.onnx in `folder`; raises RuntimeFailure if one does not run."""
    reference = scorer.score(folder / "reference.onnx")
    progress(1, 2)
    typed = files.on_disk(folder / "typed.onnx")
    progress(2, 2)
    return {"reference": reference, "typed": typed}


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
