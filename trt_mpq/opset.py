"""Conversion between ONNX opsets: up for FP8 (19 and later), down for old TensorRT (17).

ONNX's own converter does the work. onnxscript's is not used: it knows three operators, starts at
opset 18, and skips what it cannot convert with a log line.
"""

from __future__ import annotations

import re

import onnx
import onnx.defs
import onnx.helper
import onnx_ir as ir
from onnx.version_converter import ConvertError
from onnx_ir.passes import common as passes

from trt_mpq import onnx_api
from trt_mpq.errors import ModelError

_NO_ADAPTER = re.compile(r"No (?:Adapter (?:From|To) Version \$\d+ for|Previous Version of) (\w+)")


def opset_of(graph: ir.Model) -> int:
    """The version of the default ONNX operator set that `graph` imports."""
    return graph.opset_imports[""]


def convert_opset(graph: ir.Model, version: int) -> ir.Model:
    """A copy of `graph` at opset `version`.

    Names of inputs, outputs, nodes and initializers survive. Operands that the new opset wants as
    tensors become initializers named after their node and parameter, such as ``pool.axes``.

    Args:
        graph: A graph of default-domain operators without functions or control flow.
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
        result.graph = onnx_api.convert_version(graph, version)
    except (RuntimeError, ConvertError) as error:
        raise ModelError(
            f"the model cannot be converted from opset {opset_of(graph)} to {version}: {_reason(error)}"
        ) from error
    result.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", version)])
    _name_new_operands(result, version)
    onnx_api.check(result)
    return result


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
