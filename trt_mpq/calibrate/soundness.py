"""Whether a network still has finite numbers in its high precision."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from trt_mpq.calibrate.reductions import add_reduction
from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks
from trt_mpq.emit import Network
from trt_mpq.runtime.base import Runtime


def first_not_finite(network: Network, samples: Samples, runtime: Runtime, batch: int) -> str | None:
    """The first node whose result is NaN or infinite with every group in high precision; None if there is none.

    Tensors that calibration has not seen finite in FP32 are left out.

    Args:
        network: A calibrated network.
        samples: Data to run; it ends with the first chunk that has such a result.
        runtime: Where graphs run.
        batch: Samples per run, at most.
    """
    graph = network.graph.graph
    watched = {name for name, observed in network.ranges.tensors.items() if np.isfinite(observed.magnitude)}
    written = {str(value.name): node for node in graph for value in node.outputs if value.name in watched}
    session = runtime.load(
        _with_means(network.emitter().reference(network.grouping.uniform(network.grouping.top)), written)
    )
    for chunk in chunks(samples, batch):
        means = session.run(chunk.feeds)
        first = next((node for name, node in written.items() if not np.isfinite(means[f"{name}/mean"])), None)
        if first is not None:
            return f"{first.name} ({first.op_type})"
    return None


def _with_means(graph: ir.Model, tensors: Collection[str]) -> ir.Model:
    """A mean is NaN or infinite if one of its values is; of 16-bit values it does not overflow."""
    values = [value for node in graph.graph for value in node.outputs if value.name in tensors]
    graph.graph.outputs.clear()
    for value in values:
        add_reduction(graph.graph, "ReduceMean", value, f"{value.name}/mean")
    return graph
