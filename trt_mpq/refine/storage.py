"""Bias corrections on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trt_mpq.dataset.arrays import load_npz
from trt_mpq.emit import BiasCorrections
from trt_mpq.storage import atomic_path
from trt_mpq.types import Precision


def save_corrections(path: Path, corrections: BiasCorrections) -> None:
    """Write `corrections` as an `.npz` with one array per ``precision/group``, atomically."""
    arrays = {f"{precision.value}/{group}": delta for (group, precision), delta in corrections.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def corrections_from_file(path: Path) -> BiasCorrections:
    """Read what `save_corrections` wrote; raises DataError if the file is damaged."""
    split = ((name.partition("/"), delta) for name, delta in load_npz(path).items())
    return {(group, Precision(precision)): delta for (precision, _, group), delta in split}
