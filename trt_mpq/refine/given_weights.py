"""Weights of a quantized file with the scales that it has for them, instead of those that their magnitudes suggest."""

from __future__ import annotations

import numpy as np

from trt_mpq.emit import Network, RefinedWeights
from trt_mpq.graph.edit import constant_array
from trt_mpq.numerics import FloatArray, QuantizedWeight, WeightScales, scale_from_amax, with_scales
from trt_mpq.types import GivenScales, Precision

_ROUNDED = 0.01
"""Share of a scale by which what stands for a code may lie beside it: rounding of weights that were stored in FP16."""


def given_weights(network: Network, precision: Precision) -> RefinedWeights:
    """The weights that the file stores in the codes of `precision`, with its codes and scales.

    Scales are rounded to the network's high precision, which they are constants of. Absent are weights with scales
    along another axis than output channels, with a zero point that moves codes out of reach, and those that
    preparation has changed.
    """
    layout = precision.spec.weights
    if layout is None or layout.blocks:
        return {}
    constants = network.graph.graph.initializers
    weights = {w.name: w for group in network.grouping.groups if group.allows(precision) for w in group.weights}
    found: dict[tuple[str, Precision], QuantizedWeight] = {}
    for name in weights.keys() & network.model.given.keys():
        given = network.model.given[name]
        if given.axis not in (None, weights[name].axis):
            continue
        content = constant_array(constants[name])
        if _are_codes(content, given, precision):
            amax = _scales(given) * np.float32(precision.codes.largest)
            rounded = WeightScales(scale_from_amax(amax, precision, network.grouping.top), given.axis)
            found[name, precision] = with_scales(content, rounded, precision)
    return dict(sorted(found.items()))


def _scales(given: GivenScales) -> FloatArray:
    scales = np.asarray(given.scales, np.float32)
    return scales.reshape(()) if given.axis is None else scales


def _are_codes(content: FloatArray, given: GivenScales, precision: Precision) -> bool:
    """Whether the weight is codes of `precision` times its scales."""
    scales = WeightScales(_scales(given), given.axis)
    steps = scales.steps(content.ndim)
    if not np.all((steps > 0) & np.isfinite(steps)):
        return False
    return bool(np.all(np.abs(with_scales(content, scales, precision).values - content) <= _ROUNDED * steps))
