"""Bias corrections and learned roundings on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trt_mpq.artifacts.files import write_arrays
from trt_mpq.dataset.arrays import load_npz
from trt_mpq.emit import BiasCorrections, Roundings
from trt_mpq.runtime.base import Arrays
from trt_mpq.types import Precision

PLAN_CORRECTIONS = "plan-corrections.npz"
"""Where the bias corrections lie that were measured for exactly the chosen plan."""
_BITS, _SHAPE = "bits/", "shape/"


def save_corrections(corrections: BiasCorrections, path: Path) -> None:
    """Write `corrections` as an `.npz` with one array per ``precision/anchor``, atomically."""
    write_arrays({f"{precision.value}/{anchor}": delta for (anchor, precision), delta in corrections.items()}, path)


def corrections_from_file(path: Path) -> BiasCorrections:
    """Read what `save_corrections` wrote; raises DataError if the file is damaged."""
    return {_key(name): delta for name, delta in load_npz(path).items()}


def save_roundings(roundings: Roundings, path: Path) -> None:
    """Write `roundings` as an `.npz`, atomically: one bit per weight, and the shape, per ``precision/weight``."""
    arrays: Arrays = {}
    for (weight, precision), up in roundings.items():
        arrays[f"{_BITS}{precision.value}/{weight}"] = np.packbits(up)
        arrays[f"{_SHAPE}{precision.value}/{weight}"] = np.array(up.shape, np.int64)
    write_arrays(arrays, path)


def roundings_from_file(path: Path) -> Roundings:
    """Read what `save_roundings` wrote; raises DataError if the file is damaged."""
    arrays = load_npz(path)
    shapes = {name.removeprefix(_SHAPE): array for name, array in arrays.items() if name.startswith(_SHAPE)}
    return {
        _key(name): np.unpackbits(arrays[f"{_BITS}{name}"], count=int(shape.prod())).astype(bool).reshape(shape)
        for name, shape in shapes.items()
    }


def _key(name: str) -> tuple[str, Precision]:
    precision, _, rest = name.partition("/")
    return rest, Precision(precision)
