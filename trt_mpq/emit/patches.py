"""Patch embeddings, convolutions that read every value once, as the matrix products of patches that they are.

NVIDIA's compiler has no FP8 convolution with a kernel volume above 32, but FP8 products. The kernel that quantizes
patches gathers them, and readers that want tokens take what the product writes as it is: no kernel is added
(`tests/contracts/test_patches_compile.py`). In INT8 or with smaller kernels some networks would get one more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import add_constant, insert_node, take_over
from trt_mpq.numerics import QuantizedWeight


def multiply_patches(graph: ir.Graph, node: ir.Node, patches: Sequence[int]) -> None:
    """Make a MatMul of the Conv `node`, which lays so many `patches` along each axis; its bias is added behind it.

    The product reads patches [batch, patches, values] under the name of the convolution, and its weight, which is to
    be replaced by one that `as_columns` turned, lies still as the convolution has it.
    """
    data, weight, *biases = node.inputs
    assert data is not None
    assert weight is not None
    assert weight.shape is not None
    channels, values, *kernel = weight.shape.numpy()
    sizes = [size for pair in zip(patches, kernel, strict=True) for size in pair]
    within = range(3, 3 + 2 * len(kernel), 2)
    stem = f"{data.name}_patches"
    cut = _view(graph, data, [0, values, *sizes], f"{stem}_cut")
    turned = _turn(graph, cut, [0, *(axis - 1 for axis in within), 1, *within], f"{stem}_turned")
    rows = _view(graph, turned, [0, prod(patches), values * prod(kernel)], stem)
    node.op_type = "MatMul"
    node.attributes.clear()
    node.resize_inputs(2)
    node.replace_input_with(0, rows)
    product = node.outputs[0]
    result = product
    if biases and biases[0] is not None:
        result = insert_node(graph, "Add", [product, biases[0]], f"{product.name}_biased", after=node)
    back = _turn(graph, result, [0, 2, 1], f"{product.name}_turned")
    whole = _view(graph, back, [0, channels, *patches], f"{product.name}_whole")
    whole.shape = product.shape
    first = (back if result is product else result).producer()
    take_over(graph, product, whole, keeps=lambda user, _: user is first, suffix="_tokens")
    for value in (product, result, back):
        value.shape = None


def as_columns(weight: QuantizedWeight) -> QuantizedWeight:
    """The weight of a convolution, one scale per output channel, as the matrix [values of a patch, channels]."""
    codes = np.ascontiguousarray(weight.codes.reshape(len(weight.codes), -1).T)
    return QuantizedWeight(codes, replace(weight.scales, axis=1))


def _view(graph: ir.Graph, value: ir.Value, sizes: Sequence[int], name: str) -> ir.Value:
    shape = add_constant(graph, f"{name}_shape", np.array(sizes, np.int64))
    viewed = insert_node(graph, "Reshape", [value, shape], name, after=value.producer())
    viewed.shape = None
    return viewed


def _turn(graph: ir.Graph, value: ir.Value, order: Sequence[int], name: str) -> ir.Value:
    turned = insert_node(graph, "Transpose", [value], name, after=value.producer(), attributes={"perm": list(order)})
    turned.shape = None
    return turned
