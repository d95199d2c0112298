"""Whether network, configuration and device fit together: what the builder refuses before it builds."""

from __future__ import annotations

from typing import Any

from trt_fake import world
from trt_fake.network import DATA_TYPES
from trt_fake.onnx_graph import Graph

Complaint = tuple[int, str, str]
"""Code, kind and text of an error."""

_FLAG_OF = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8", "fp8": "FP8"}
_CONSTRAINTS = ("OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")
_WEAK_FLAGS = (*_FLAG_OF.values(), "INT4", "FP4", *_CONSTRAINTS)


def complaint(network: Any, config: Any) -> Complaint | None:
    """Why there will be no engine, None if nothing speaks against one."""
    if network._graph is None or not network.num_outputs:
        return 4, "Internal", "(Network must have at least one output)"
    quantized = quantized_types(network._graph)
    found = _strong_complaint(network, config) if network._strong else _weak_complaint(network, config, quantized)
    if found is None and "fp8" in quantized and world.behaviour().sm < 89:
        found = 9, "API Usage", "(Networks with FP8 Q/DQ layers require hardware with FP8 support.)"
    return found or _profile_complaint(network, config)


def quantized_types(graph: Graph) -> set[str]:
    """The 8-bit types that Q and DQ nodes read or write."""
    names = [
        name
        for node in graph.nodes
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in (node.input[0], node.output[0])
    ]
    return {graph.info(name).dtype for name in names} & {"int8", "fp8"}


def requested_precisions(network: Any, config: Any) -> list[tuple[Any, str]]:
    """Layers with a precision that the flags of `config` make count, each with the precision."""
    flags = _flag_names(config)
    if not flags & set(_CONSTRAINTS):
        return []
    codes = {name: code for code, name in DATA_TYPES.items()}
    return [(layer, codes[layer.precision.name]) for layer in network._layers if layer.precision_is_set]


def _flag_names(config: Any) -> set[str]:
    return {flag.name for flag in config._flags}


def _strong_complaint(network: Any, config: Any) -> Complaint | None:
    weak = ", ".join(sorted(_flag_names(config) & set(_WEAK_FLAGS)))
    if weak:
        return 3, "API Usage", f"(Builder flags {weak} are not supported for strongly typed networks.)"
    return (9, "API Usage", network._misused[0]) if network._misused else None


def _weak_complaint(network: Any, config: Any, quantized: set[str]) -> Complaint | None:
    flags = _flag_names(config)
    for dtype in sorted(quantized):
        if _FLAG_OF[dtype] not in flags:
            text = f"(Networks with Q/DQ layers require {dtype} builder mode: set BuilderFlag::k{_FLAG_OF[dtype]}.)"
            return 9, "Internal", text
    for layer, precision in requested_precisions(network, config):
        needed = _FLAG_OF.get(precision)
        if needed is not None and needed not in flags:
            return 9, "API Usage", f"({layer.name}: layer precision is {precision}, but k{needed} is not set.)"
        if any(tensor._code in ("int32", "int64", "bool") for tensor in layer._outputs):
            return 4, "Internal", f"({layer.name}: no implementation computes its indices in {precision}.)"
    return None


def _profile_complaint(network: Any, config: Any) -> Complaint | None:
    for tensor in network._inputs:
        if -1 not in tensor._shape:
            continue
        if not config._profiles:
            return 4, "Internal", f"({tensor.name}: dynamic input is missing dimensions in profile 0.)"
        for number, profile in enumerate(config._profiles):
            sizes = profile.get_shape(tensor.name)
            if not sizes or not all(_fits(tensor._shape, shape) for shape in sizes):
                return 4, "Internal", f"({tensor.name}: shapes of profile {number} do not fit the network's.)"
    return None


def _fits(declared: tuple[int, ...], shape: Any) -> bool:
    sizes = tuple(shape)
    return len(sizes) == len(declared) and all(d in (-1, s) for d, s in zip(declared, sizes, strict=True))
