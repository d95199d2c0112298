"""Graphs to group, by name, from a file or from ONNX text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import numpy_helper, parser

from tests.networks import NETWORKS
from tests.prepared import with_observed
from tests.transformers import TRANSFORMERS
from trt_mpq.groups import groups_from_model
from trt_mpq.model import load_graph, prepare_model
from trt_mpq.types import Grouping, Precision

ALL = {**NETWORKS, **TRANSFORMERS}
QUANTIZED = (Precision.FP8, Precision.INT8, Precision.INT4)
CONV = {"w": (4, 4, 1, 1)}
"""Weights of a convolution of four channels."""


def prepared(source: Path, folder: Path) -> ir.Model:
    prepare_model(source, folder / "prepared.onnx")
    return load_graph(folder / "prepared.onnx")


def network(name: str, folder: Path) -> ir.Model:
    (folder / "source.onnx").write_bytes(ALL[name]().SerializeToString())
    return prepared(folder / "source.onnx", folder)


def sample_shapes(graph: ir.Model, tokens: int = 64) -> dict[str, tuple[int, ...]]:
    """One sample per input, and what only a run can tell; a dynamic dimension behind the batch is `tokens`."""
    fed = {
        v.name: tuple(d if isinstance(d, int) else tokens if axis else 1 for axis, d in enumerate(v.shape))
        for v in graph.graph.inputs
    }
    return with_observed(graph, fed)


def grouping_of(graph: ir.Model) -> Grouping:
    return groups_from_model(graph, sample_shapes(graph))


def from_text(body: str, weights: dict[str, tuple[int, ...] | np.ndarray], opset: int = 17) -> ir.Model:
    """A graph from ONNX text; weights are ones of a shape, or arrays. Node names are op_type.output."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["":{opset}]> {body}')
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else np.ones(value, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(proto)


def grouped(body: str, weights: dict[str, tuple[int, ...] | np.ndarray], opset: int = 17) -> Grouping:
    graph = from_text(body, weights, opset)
    return groups_from_model(graph, sample_shapes(graph), exclusions="none")


def nodes_of(grouping: Grouping) -> list[tuple[str, ...]]:
    return [group.nodes for group in grouping.groups]
