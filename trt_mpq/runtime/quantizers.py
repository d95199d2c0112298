"""Quantizers for ONNX Runtime, which has kernels for some on the CPU that convert one number at a time.

Those of FP8, and those of INT8 that read FP16. The copy computes the same numbers in FP32, which is vectorized: a typed
ResNet-20 gives the same, bit for bit, in 0.41 of the CPU time in FP8, and an EfficientNet-Lite0 in 0.49 in INT8
(tests/runtime/test_quantizers_by_arithmetic.py compares networks).
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from trt_mpq.graph.edit import add_constant, constant_array, sole_reader
from trt_mpq.graph.rounding import Chain, insert_float, reach_of
from trt_mpq.types.formats import Codes
from trt_mpq.types.formats.fp8 import E4M3

_E4M3, _FLOAT, _FLOAT16 = ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT, ir.DataType.FLOAT16
_HALF = Codes("float16", 16, -65504.0, 65504.0, mantissa=10, tiny=2.0**-24)


def vectorized(graph: ir.Model) -> ir.Model:
    """A copy of the network whose slow quantizers compute in FP32; the network itself where it has none.

    A pair of Q and DQ in FP8 is replaced where it has one scale for the whole tensor and nothing else reads its codes.
    What a Cast writes or reads keeps its quantizer where others read it too: ONNX Runtime, which computes FP16 in FP32
    where it has no kernel, would not round it.
    """
    if not any(map(_replacement, graph.graph)):
        return graph
    graph = graph.clone()
    for node, replace in [(node, replace) for node in graph.graph if (replace := _replacement(node))]:
        replace(graph.graph, node)
    return graph


def _replacement(node: ir.Node) -> Callable[[ir.Graph, ir.Node], None] | None:
    """What replaces a slow quantizer; None for any other node."""
    if node.op_type != "QuantizeLinear":
        return None
    value, scale, zero = (*node.inputs, None)[:3]
    if value is None or zero is None or scale is None or scale.const_value is None or _is_cast_for_others(value):
        return None
    if zero.dtype is ir.DataType.INT8 and scale.dtype is _FLOAT16:
        return _widen
    return _replace_pair if zero.dtype is _E4M3 and _is_of_pair(node, scale) else None


def _is_of_pair(quantizer: ir.Node, scale: ir.Value) -> bool:
    readers = [use.node for use in quantizer.outputs[0].uses()]
    named = any(value.is_graph_output() for node in (quantizer, *readers) for value in node.outputs)
    own = all(node.op_type == "DequantizeLinear" and node.inputs[1] is scale for node in readers)
    return scale.shape == () and own and not named


def _is_cast_for_others(value: ir.Value) -> bool:
    producer, readers = value.producer(), {use.node.op_type for use in value.uses()}
    return "Cast" in readers or (producer is not None and producer.op_type == "Cast" and len(readers) > 1)


def _replace_pair(graph: ir.Graph, quantizer: ir.Node) -> None:
    value, scale, _ = quantizer.inputs
    assert value is not None
    assert scale is not None
    step, factor = Chain(graph, value, f"{quantizer.outputs[0].name}/rounded"), _in_float(graph, scale)
    half = None if scale.dtype is _FLOAT else scale.dtype
    wide = value if half is None else _rounded(graph, step, step("Cast", value, to=_FLOAT))
    low, high = (bound / constant_array(scale).item() for bound in reach_of(value))
    codes = insert_float(graph, step, step("Div", wide, factor), E4M3, low, high)
    result = step("Mul", codes, factor)
    if half is not None:
        result = step("Cast", result, dtype=half, to=half)
    readers = [use.node for use in quantizer.outputs[0].uses()]
    for reader in readers:
        reader.outputs[0].replace_all_uses_with(result)
    graph.remove([*readers, quantizer], safe=True)


def _widen(graph: ir.Graph, quantizer: ir.Node) -> None:
    """Quantize in FP32, and clip before it too where nothing else reads what is clipped: that kernel is as slow."""
    value, scale, _ = quantizer.inputs
    assert value is not None
    assert scale is not None
    step = Chain(graph, value, f"{quantizer.outputs[0].name}/wide")
    if (clip := _clip_before(value)) is None:
        wide = step("Cast", value, to=_FLOAT)
    else:
        clipped, *bounds = (given for given in clip.inputs if given is not None)
        wide = step("Clip", step("Cast", clipped, to=_FLOAT), *(_in_float(graph, bound) for bound in bounds))
    quantizer.replace_input_with(0, _rounded(graph, step, wide))
    quantizer.replace_input_with(1, _in_float(graph, scale))
    if clip is not None:
        graph.remove(clip, safe=True)


def _clip_before(value: ir.Value) -> ir.Node | None:
    """The Clip between two constants that writes `value` for one reader, and is alone to read its own input."""
    clip = value.producer()
    if clip is None or clip.op_type != "Clip" or sole_reader(value, "QuantizeLinear") is None:
        return None
    clipped, *bounds = clip.inputs
    bounded = len(bounds) == 2 and all(bound is not None and bound.const_value is not None for bound in bounds)
    return clip if bounded and clipped is not None and sole_reader(clipped, "Clip") is clip else None


def _in_float(graph: ir.Graph, constant: ir.Value) -> ir.Value:
    return add_constant(graph, f"{constant.name}/wide", constant_array(constant))


def _rounded(graph: ir.Graph, step: Chain, wide: ir.Value) -> ir.Value:
    """`wide`, which is FP32 of an FP16 tensor, as FP16 holds it.

    The rounding that a QuantizeLinear sees has to be arithmetic: of Casts there and back before what it computes in
    FP32, ONNX Runtime drops both.
    """
    return insert_float(graph, step, wide, _HALF, *reach_of(wide))
