"""What a model must not be: every refusal is one sentence that says what to do instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx.defs
import onnx_ir as ir

from trt_mpq.errors import ModelError
from trt_mpq.graph import onnx_api
from trt_mpq.graph.control_flow import has_body, reads
from trt_mpq.graph.operators import CONTROL_FLOW, STANDARD_INTEGER, WEIGHTED

_QUANTIZED = STANDARD_INTEGER | {"QuantizeLinear", "DequantizeLinear"}
"""Those of other domains are refused for their domain, after this."""


def external_tensors(graph: ir.Model) -> Iterator[ir.ExternalTensor]:
    """All tensors of the model, initializers and attributes, whose data lies in another file."""
    graphs = [*graph.graphs(), *(function.graph for function in graph.functions.values())]
    for part in graphs:
        yield from _external(value.const_value for value in part.initializers.values())
        for node in part:
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                if attribute.type is ir.AttributeType.TENSOR:
                    yield from _external([attribute.value])
                elif attribute.type is ir.AttributeType.TENSORS:
                    yield from _external(attribute.value)


def _external(tensors: Iterable[ir.TensorProtocol | None]) -> Iterator[ir.ExternalTensor]:
    return (tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor))


def check_external_data(graph: ir.Model, folder: Path) -> None:
    """Refuse external data outside `folder` (the model's, resolved), missing or too short, before reading any."""
    for tensor in external_tensors(graph):
        location = Path(tensor.location)
        file = (folder / location).resolve()
        if location.is_absolute() or folder not in file.parents:
            raise ModelError(
                f"tensor {tensor.name} has its data in {location}, outside the model's folder: "
                "store external data beside the model"
            )
        if not file.is_file():
            raise ModelError(
                f"tensor {tensor.name} has its data in {location}, which is missing: copy it beside the model"
            )
        end = (tensor.offset or 0) + (tensor.nbytes if tensor.length is None else tensor.length)
        if file.stat().st_size < end:
            raise ModelError(f"tensor {tensor.name} needs {end} bytes of {location}, which is shorter: copy it again")
        tensor.base_dir = folder


def check_source(graph: ir.Model, path: Path, *, changed: bool = False) -> None:
    """Refuse invalid ONNX and inputs or outputs that no later stage could feed or compare.

    `changed` says that the graph is no longer what the file holds.
    """
    newest = onnx.defs.onnx_opset_version()
    opset = max((graph.opset_imports.get(domain, 0) for domain in ("", "ai.onnx")), default=0)
    if opset > newest:
        raise ModelError(
            f"{path} uses opset {opset}, the installed onnx {onnx.__version__} knows {newest}: upgrade onnx"
        )
    inputs = [value for value in graph.graph.inputs if not value.is_initializer()]
    for value in inputs:
        _check_input(value)
    try:
        _check_onnx(graph, path, changed=changed)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path} is not a valid ONNX model: {onnx_api.first_line(error)}") from error
    if not inputs:
        raise ModelError(f"{path} has no inputs, so there is nothing to calibrate")
    if not graph.graph.outputs:
        raise ModelError(f"{path} has no outputs, so there is nothing to compare")


def sort_nodes(graph: ir.Model) -> bool:
    """Put the nodes of a graph and of its bodies in order, in place; whether they were not.

    ONNX Runtime's float16 converter, for one, appends its casts at the end.

    Raises:
        ModelError: Nodes read what they make, so that there is no order.
    """
    if all(map(_is_sorted, graph.graphs())):
        return False
    try:
        graph.graph.sort()
    except ValueError as error:
        raise ModelError("nodes of the graph read what they make themselves: export the model again") from error
    return True


def _is_sorted(graph: ir.Graph) -> bool:
    """Whether no node of this very graph reads what a later one of it writes."""
    waiting = set(graph)
    for node in graph:
        if any(value.producer() in waiting for value in reads(node)):
            return False
        waiting.remove(node)
    return True


def _check_onnx(graph: ir.Model, path: Path, *, changed: bool) -> None:
    """ONNX's checker, which wants a shape of every output, though nothing needs it: any does where there is none."""
    if not changed and all(value.shape is not None for value in graph.graph.outputs):
        onnx.checker.check_model(str(path.resolve()))
        return
    shaped = graph.clone()
    for value in shaped.graph.outputs:
        value.shape = value.shape or ir.Shape(())
    onnx.checker.check_model(onnx_api.light_proto(shaped))


def _check_input(value: ir.Value) -> None:
    if value.type is not None and (not isinstance(value.type, ir.TensorType) or value.dtype is ir.DataType.STRING):
        raise ModelError(f"input {value.name} is a {value.type}: only numeric tensors can be fed to TensorRT")
    if value.shape is None:
        raise ModelError(f"input {value.name} has no declared rank: export the model with input shapes")


def check_operators(graph: ir.Model) -> None:
    """Refuse models that are quantized already, and operators that TensorRT's parser does not know, also inside bodies.

    Functions must have been inlined.
    """
    for node in graph.graph.all_nodes():
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            way = (
                "TensorRT's parser does not know integer operators: pass the model in FP32, or with QuantizeLinear and "
                "DequantizeLinear"
                if node.op_type in STANDARD_INTEGER or node.op_type.startswith("QLinear")
                else "pass the FP32 model, or --from-qdq to take its scales and search which of its quantizers to keep"
            )
            raise ModelError(f"the model is already quantized (first at node {_label(node)}): {way}")
    for node in graph.graph.all_nodes():
        if has_body(node) and node.op_type not in CONTROL_FLOW:
            raise ModelError(
                f"node {_label(node)} is control flow that TensorRT's parser does not know: of that it takes "
                f"{', '.join(sorted(CONTROL_FLOW))}, so export a model without it"
            )
        if node.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"node {_label(node)} is of domain {node.domain}: only standard ONNX operators are supported"
            )


def check_prepared(graph: ir.Model) -> None:
    """Refuse training graphs and weighted operators in double precision, also inside bodies."""
    for node in graph.graph.all_nodes():
        if node.op_type == "Dropout" or (node.op_type == "BatchNormalization" and _trains(node)):
            raise ModelError(f"node {_label(node)} is in training mode: export the model for inference (model.eval())")
        if node.op_type in WEIGHTED:
            _check_single(node)


def _trains(node: ir.Node) -> bool:
    return node.attributes.get_int("training_mode", 0) == 1 or len(node.outputs) > 1


def _check_single(node: ir.Node) -> None:
    for value in node.inputs:
        if value is not None and value.dtype is ir.DataType.DOUBLE:
            raise ModelError(f"node {_label(node)} computes in {value.dtype}: export the model in FP32 or FP16")


def _label(node: ir.Node) -> str:
    return f"{node.name or node.outputs[0].name} ({node.op_type})"
