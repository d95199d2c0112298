"""Groups of a network that is no run: shapes that inference cannot tell are observed on zeros, as runs do on data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from trt_mpq.calibrate.shapes import observed_shapes
from trt_mpq.dataset import samples_from_arrays
from trt_mpq.graph.interface import Interface
from trt_mpq.groups import groups_from_model
from trt_mpq.groups.shapes import bind_shapes, unknown_shapes
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Grouping, Precision


def all_groups(graph: ir.Model, fed: Mapping[str, tuple[int, ...]]) -> Grouping:
    """Every group of a prepared graph, none kept out of a format.

    Args:
        graph: The graph.
        fed: Input name to the shape of one sample, batch dimension 1.
    """
    shapes, inputs = dict(fed), Interface.of(graph).inputs
    if unknown := unknown_shapes(bind_shapes(graph, fed)):
        zeros = {spec.name: np.zeros(fed[spec.name], spec.dtype) for spec in inputs}
        shapes |= observed_shapes(graph, unknown, samples_from_arrays(zeros, inputs), OnnxRuntime())
    return groups_from_model(graph, shapes, "none", formats=tuple(p for p in Precision if p.quantized))
