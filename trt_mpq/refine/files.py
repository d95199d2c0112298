"""Bias corrections, learned roundings and refined weights on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trt_mpq.artifacts.files import write_arrays
from trt_mpq.dataset.arrays import load_npz
from trt_mpq.emit import BiasCorrections, RefinedWeights, Roundings
from trt_mpq.numerics import QuantizedWeight, WeightScales
from trt_mpq.runtime.base import Arrays
from trt_mpq.types import Precision
from trt_mpq.types.formats.fp8 import E4M3

PLAN_CORRECTIONS = "plan-corrections.npz"
"""Where the bias corrections lie that were measured for exactly the chosen plan."""
WEIGHTS = "weights.npz"
"""Where codes and scales of weights lie that were found for them."""
_BITS, _SHAPE = "bits/", "shape/"
_CODES, _SCALE, _TENSOR_SCALE, _LIE = "codes/", "scale/", "tensor-scale/", "lie/"


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


def save_weights(weights: RefinedWeights, path: Path) -> None:
    """Write codes and scales of `weights` as an `.npz`, atomically."""
    arrays: Arrays = {}
    for (weight, precision), found in weights.items():
        name, scales = f"{precision.value}/{weight}", found.scales
        arrays[f"{_CODES}{name}"] = found.codes.view(np.uint8)
        arrays[f"{_SCALE}{name}"] = scales.scale.astype(np.float32)
        arrays[f"{_LIE}{name}"] = np.array([_absent(scales.axis), _absent(scales.block)], np.int64)
        if scales.tensor_scale is not None:
            arrays[f"{_TENSOR_SCALE}{name}"] = np.asarray(scales.tensor_scale, np.float32)
    write_arrays(arrays, path)


def weights_from_file(path: Path) -> RefinedWeights:
    """Read what `save_weights` wrote; raises DataError if the file is damaged."""
    arrays = load_npz(path)
    names = [name.removeprefix(_CODES) for name in arrays if name.startswith(_CODES)]
    return {_key(name): _weight(arrays, name) for name in names}


def _weight(arrays: Arrays, name: str) -> QuantizedWeight:
    _, precision = _key(name)
    axis, block = (None if number < 0 else int(number) for number in arrays[f"{_LIE}{name}"])
    scale, tensor_scale = arrays[f"{_SCALE}{name}"], arrays.get(f"{_TENSOR_SCALE}{name}")
    if tensor_scale is not None:
        scale = scale.astype(np.dtype(E4M3.dtype))
    stored = arrays[f"{_CODES}{name}"].view(np.dtype(precision.codes.dtype))
    return QuantizedWeight(stored, WeightScales(scale, axis, block, tensor_scale))


def _absent(number: int | None) -> int:
    return -1 if number is None else number


def _key(name: str) -> tuple[str, Precision]:
    precision, _, rest = name.partition("/")
    return rest, Precision(precision)
