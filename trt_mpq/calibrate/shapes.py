"""Shapes that follow from a run alone: what symbolic inference cannot tell, observed on samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks
from trt_mpq.graph.edit import insert_node
from trt_mpq.runtime.base import Runtime


def observed_shapes(
    graph: ir.Model, tensors: Sequence[str], samples: Samples, runtime: Runtime
) -> dict[str, tuple[int, ...]]:
    """Shape of every one of `tensors` while the first and the last of the samples run, each alone.

    What follows from the shapes of the inputs is the same for both. A size that depends on the data, such as the number
    of detections, is the larger of the two.

    Args:
        graph: The graph to run.
        tensors: Tensors that it computes.
        samples: Samples of one shape.
        runtime: Where the graph runs.

    Raises:
        RuntimeFailure: The graph does not run on a sample.
    """
    session = runtime.load(_with_shapes(graph, tensors))
    ends = (samples.select(np.array([number])) for number in sorted({0, samples.count - 1}))
    runs = [session.run(chunk.feeds) for sample in ends for chunk in chunks(sample, 1)]
    return {
        name: tuple(int(size) for size in np.max([run[f"{name}/shape"] for run in runs], axis=0)) for name in tensors
    }


def _with_shapes(graph: ir.Model, tensors: Sequence[str]) -> ir.Model:
    """A copy of `graph` that gives the shapes of `tensors` in place of its outputs."""
    model = graph.clone()
    values = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs.clear()
    for value in map(values.__getitem__, tensors):
        name, integers = f"{value.name}/shape", ir.DataType.INT64
        shape = insert_node(model.graph, "Shape", [value], name, after=value.producer(), dtype=integers)
        shape.shape = ir.Shape([None])
        model.graph.outputs.append(shape)
    passes.RemoveUnusedNodesPass()(model)
    return model
