"""Conversion between ONNX opsets: up for FP8 (19 and later), down for old TensorRT (17).

ONNX's own converter does the work, but for Pad and Split on the way below 18, for which it has nothing.
onnxscript's is not used: it knows three operators, starts at opset 18, and skips what it cannot convert with a log
line.
"""

from __future__ import annotations

import math
import re

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.version_converter
import onnx_ir as ir
from onnx.version_converter import ConvertError
from onnx_ir.passes import common as passes

from trt_mpq.errors import ModelError
from trt_mpq.graph import onnx_api
from trt_mpq.graph.edit import add_constant

WEAK_OPSET = 17
"""The newest opset TensorRT 8.6, which is weakly typed, reads."""

_NO_ADAPTER = re.compile(r"No (?:Adapter (?:From|To) Version \$\d+ for|Previous Version of) (\w+)")

_REWORKED = 18
"""From this opset on Pad has axes and Split a number of outputs."""
_OLDEST_TARGET = 13
"""Down to this opset Pad and Split are what they are in 17."""
_HELD = "trt_mpq.held"
"""A domain of which ONNX's converter passes nodes on as they are."""


def opset_of(graph: ir.Model) -> int:
    """The version of the default ONNX operator set that `graph` imports."""
    return graph.opset_imports[""]


def drop_split_counts(graph: ir.Model) -> bool:
    """Take `num_outputs` off every Split of an opset that does not know it; returns whether there was any.

    Torch's exporter leaves it where it lowers a graph from opset 18. Without it the parts are equal, as it says.
    """
    if max(graph.opset_imports.get(domain, 0) for domain in ("", "ai.onnx")) >= _REWORKED:
        return False
    counted = [node for node in graph.graph.all_nodes() if node.op_type == "Split" and "num_outputs" in node.attributes]
    for node in counted:
        node.attributes.pop("num_outputs")
    return bool(counted)


def convert_opset(graph: ir.Model, version: int) -> ir.Model:
    """A copy of `graph` at opset `version`.

    Names of inputs, outputs, nodes and initializers survive. Operands that the new opset wants as
    tensors become initializers named after their node and parameter, such as ``pool.axes``.

    Args:
        graph: A graph of default-domain operators without functions.
        version: The opset wanted, higher or lower.

    Raises:
        ModelError: An operator has no equivalent at `version`, or the result is invalid; the
            message names the operator.
    """
    if not 1 <= version <= onnx.defs.onnx_opset_version():
        raise ModelError(f"opset {version} does not exist for the installed onnx {onnx.__version__}")
    result = graph.clone()
    if opset_of(graph) == version:
        return result
    try:
        if opset_of(graph) >= _REWORKED > version >= _OLDEST_TARGET:
            _hold_lowered(result.graph)
        result.graph = _converted(result, version)
    except (RuntimeError, ConvertError) as error:
        raise ModelError(
            f"the model cannot be converted from opset {opset_of(graph)} to {version}: {_reason(error)}"
        ) from error
    _release(result.graph)
    result.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", version)])
    _name_new_operands(result, version)
    onnx_api.check(result)
    return result


def _converted(graph: ir.Model, version: int) -> ir.Graph:
    """The main graph of `graph` at another opset, through ONNX's converter, which does not look into weights.

    Raises:
        RuntimeError, ConvertError: An operator has no adapter between the versions.
    """
    converted = ir.from_proto(onnx.version_converter.convert_version(onnx_api.light_proto(graph), version)).graph
    inputs = list(converted.inputs)
    converted.inputs.clear()
    converted.inputs.extend(inputs[: len(graph.graph.inputs)])
    for value, original in zip(converted.outputs, graph.graph.outputs, strict=True):
        value.shape = original.shape  # the converter invents names for sizes that it does not know
    for value in inputs[len(graph.graph.inputs) :]:
        assert value.name is not None
        value.const_value = graph.graph.initializers[value.name].const_value
        converted.register_initializer(value)
    return converted


def _hold_lowered(graph: ir.Graph) -> None:
    """Write every Pad and Split as opset 17 has it, and hide it from the converter."""
    for node in graph.all_nodes():
        if node.op_type in ("Pad", "Split") and node.domain == "":
            (_lower_pad if node.op_type == "Pad" else _lower_split)(graph, node)
            node.domain = _HELD
    graph.opset_imports[_HELD] = 1


def _release(graph: ir.Graph) -> None:
    for node in graph.all_nodes():
        if node.domain == _HELD:
            node.domain = ""
    graph.opset_imports.pop(_HELD, None)


def _lower_pad(graph: ir.Graph, node: ir.Node) -> None:
    """Spell out the pads of all axes where `axes` names some."""
    if node.attributes.get_string("mode", "constant") == "wrap":
        raise ConvertError(f"Pad {node.name} wraps around, which has no equivalent there")
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    if axes is None:
        return
    data, pads = node.inputs[:2]
    if pads is None or pads.const_value is None or axes.const_value is None or data is None or data.shape is None:
        raise ConvertError(f"Pad {node.name} has pads or axes that are computed, which has no equivalent there")
    rank, amounts = len(data.shape), pads.const_value.numpy().reshape(2, -1)
    full = np.zeros((2, rank), np.int64)
    full[:, axes.const_value.numpy() % rank] = amounts
    node.replace_input_with(1, add_constant(graph, f"{node.name}.pads", full.ravel()))
    node.resize_inputs(3)
    for value in (pads, axes):
        if not value.uses():
            graph.initializers.pop(str(value.name), None)


def _lower_split(graph: ir.Graph, node: ir.Node) -> None:
    """Spell out the sizes where only the number of parts is given and the last one is smaller."""
    if node.attributes.pop("num_outputs", None) is None:
        return
    data, axis, parts = node.inputs[0], node.attributes.get_int("axis", 0), len(node.outputs)
    length = None if data is None or data.shape is None else data.shape[axis]
    if not isinstance(length, int):
        raise ConvertError(f"Split {node.name} divides a dimension of unknown size, which has no equivalent there")
    if length % parts:
        size = math.ceil(length / parts)
        sizes = np.array([size] * (parts - 1) + [length - size * (parts - 1)], np.int64)
        node.resize_inputs(2)
        node.replace_input_with(1, add_constant(graph, f"{node.name}.split", sizes))


def _reason(error: Exception) -> str:
    missing = _NO_ADAPTER.search(str(error))
    return f"{missing[1]} has no equivalent there" if missing else onnx_api.first_line(error)


def _name_new_operands(graph: ir.Model, version: int) -> None:
    """Turn the unnamed Constant nodes the converter added into initializers with clear names."""
    added = [str(node.outputs[0].name) for node in graph.graph if node.op_type == "Constant" and not node.name]
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    for name in added:
        value = graph.graph.initializers.get(name)
        if value is not None:
            consumer, index = next(iter(value.uses()))
            parameter = onnx.defs.get_schema(consumer.op_type, version).inputs[index].name
            value.name = f"{consumer.name}.{parameter}"
    passes.NameFixPass()(graph)
