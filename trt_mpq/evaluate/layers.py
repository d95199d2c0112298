"""How far every group's result is from FP32 while all others run in the plan too, as Polygraphy compares layers."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10

import numpy as np
import onnx_ir as ir

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks
from trt_mpq.runtime.base import Runtime, with_outputs

_COMPARED_SAMPLES = 16
_SMALLEST = float(np.finfo(np.float64).tiny)


def layer_errors(
    exact: ir.Model, tested: ir.Model, tensors: Mapping[str, str], samples: Samples, runtime: Runtime, batch: int
) -> dict[str, float | None]:
    """Signal-to-noise ratio in decibels of what each group writes, ``10 log10(sum r^2 / sum (r - t)^2)``.

    Args:
        exact: The network in FP32.
        tested: The network with the plan in it; tensors keep their names.
        tensors: Group to the tensor that it writes.
        samples: Data, of which the first few are run.
        runtime: Where both run.
        batch: Samples per run.

    Returns:
        Group to its ratio; None where both are bit-equal. Groups whose tensor one of the two does not compute are left
        out.
    """
    named = {group: name for group, name in tensors.items() if name in _computed(exact) & _computed(tested)}
    names = list(dict.fromkeys(named.values()))
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    sessions = [runtime.load(with_outputs(graph, names)) for graph in (exact, tested)] if names else []
    for chunk in chunks(samples.take(_COMPARED_SAMPLES), batch) if names else ():
        right, found = (session.run(chunk.feeds) for session in sessions)
        for name in names:
            known = np.isfinite(right[name]) & np.isfinite(found[name])
            values = right[name][known].astype(np.float64)
            signal[name] += float(np.sum(values**2))
            noise[name] += float(np.sum((values - found[name][known]) ** 2))
    ratios = {name: _decibels(signal[name], noise[name]) for name in names}
    return {group: ratios[name] for group, name in named.items()}


def _computed(graph: ir.Model) -> set[str]:
    return {str(value.name) for node in graph.graph for value in node.outputs}


def _decibels(signal: float, noise: float) -> float | None:
    return None if noise == 0 else 10 * log10(max(signal, _SMALLEST) / noise)
