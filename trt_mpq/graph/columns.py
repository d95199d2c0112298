"""Q, K and V that one product computes in columns side by side and a Split takes apart, spelled as a product each.

GPT-2 and what descends from it multiply by one weight [hidden, 3 hidden] and split the result. Where the parts become
the heads of an attention at once, NVIDIA's compiler cuts the weight itself and runs the product in FP16, as it does
with the packed projections of `graph.projections`; where something lies between, such as rotary embeddings, it leaves
the product whole and runs it in 8 bit (seen in kernels of TensorRT for RTX 1.7.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import constant_array, sole_reader
from trt_mpq.graph.replacement import Replacement, replace

_PARTS = 3


@dataclass(frozen=True)
class _SideBySide:
    """``Split(Reshape(data @ weight + bias))`` along the last axis; `add` and `view` may be absent."""

    product: ir.Node
    add: ir.Node | None
    view: ir.Node | None
    split: ir.Node
    columns: int

    @property
    def column_axis(self) -> int:
        """The axis of the weight that holds the columns."""
        return 0 if self.product.op_type == "Gemm" and self.product.attributes.get_int("transB", 0) == 1 else 1


def unpack_columns(graph: ir.Graph, product: ir.Node) -> None:
    """Replace `product`, a MatMul or Gemm, by one for each of Q, K and V, if its columns are those."""
    found = _side_by_side(product)
    if found is None:
        return
    writer = Replacement(graph, found.split)
    parts = [_part(writer, found, index) for index in range(_PARTS)]
    for output, part in zip(found.split.outputs, parts, strict=True):
        replace(output, part)
    graph.remove([node for node in (found.split, found.view, found.add, product) if node is not None], safe=True)


def _part(writer: Replacement, found: _SideBySide, index: int) -> ir.Value:
    """The columns of the part at `index`, computed by a product of their own."""
    product, named = found.product, f"part{index}"
    name = product.name if index == 0 else product.name and f"{product.name}.{index}"
    data, weight, *biases = (value for value in product.inputs if value is not None)
    operands = [
        data,
        *(_cut(writer, c, index, a) for c, a in ((weight, found.column_axis), *((b, -1) for b in biases))),
    ]
    value = writer.emit(product.op_type, operands, f"{named}.product", name=name, **_attributes(product))
    if found.add is not None:
        value = _added(writer, found.add, value, index)
    if found.view is not None:
        shape = _shape_of_part(writer, found, named)
        value = writer.emit("Reshape", [value, shape], f"{named}.view", **_attributes(found.view))
    return value


def _added(writer: Replacement, add: ir.Node, value: ir.Value, index: int) -> ir.Value:
    constant = next(v for v in add.inputs if v is not None and v.const_value is not None)
    operands = [value, _cut(writer, constant, index, -1)]
    return writer.emit("Add", operands, f"part{index}.bias", name=add.name and f"{add.name}.{index}")


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _cut(writer: Replacement, constant: ir.Value, index: int, axis: int) -> ir.Value:
    """The part at `index` of a stored tensor along `axis`; itself if it has one value for all columns."""
    content = constant_array(constant)
    if content.ndim == 0 or content.shape[axis] == 1:
        return constant
    part = np.ascontiguousarray(np.split(content, _PARTS, axis)[index])
    return writer.constant(part, f"{constant.name}.part{index}")


def _shape_of_part(writer: Replacement, found: _SideBySide, named: str) -> ir.Value:
    """The shape that the view gives to a part: that of the whole with fewer columns."""
    assert found.view is not None
    shape, columns = found.view.inputs[1], found.columns // _PARTS
    assert shape is not None
    if shape.const_value is not None:
        sizes = np.array([*shape.const_value.numpy()[:-1], columns], np.int64)
        return writer.constant(sizes, f"{shape.name}.{named}")
    joined = shape.producer()
    assert joined is not None
    leading = [value for value in joined.inputs[:-1] if value is not None]
    last = writer.constant(np.array([columns], np.int64), f"{shape.name}.{named}.columns")
    computed = writer.emit("Concat", [*leading, last], f"{named}.shape", axis=0)
    computed.type = ir.TensorType(ir.DataType.INT64)
    return computed


def _side_by_side(product: ir.Node) -> _SideBySide | None:
    """The product with what takes its columns apart, if they are three of equal size that become heads at once."""
    weight = product.inputs[1]
    if weight is None or weight.const_value is None or len(weight.const_value.shape) != 2:
        return None
    add = sole_reader(product.outputs[0], "Add")
    view = sole_reader((add or product).outputs[0], "Reshape")
    split = sole_reader((view or add or product).outputs[0], "Split")
    if split is None:
        return None
    columns = _last(product.outputs[0])
    found = _SideBySide(product, add, view, split, columns if isinstance(columns, int) else 0)
    return found if _takes_columns(found) and all(map(_becomes_heads, split.outputs)) and _can_cut(found) else None


def _takes_columns(found: _SideBySide) -> bool:
    """Whether the Split divides the last axis into three equal parts."""
    source = found.split.inputs[0]
    assert source is not None
    rank = len(source.shape or ())
    axis = found.split.attributes.get_int("axis", 0)
    parts = [_last(output) for output in found.split.outputs]
    return rank > 0 and axis in (-1, rank - 1) and found.columns > 0 and parts == [found.columns // _PARTS] * _PARTS


def _becomes_heads(part: ir.Value) -> bool:
    """Whether all that reads the part is a view that is transposed."""
    view = sole_reader(part, "Reshape")
    return view is not None and sole_reader(view.outputs[0], "Transpose") is not None


def _can_cut(found: _SideBySide) -> bool:
    """Whether the columns stay together up to the Split, and all that joins them on the way can be cut like them."""
    data, result = found.product.inputs[0], found.product.outputs[0]
    _, *others = (
        value
        for node in (found.product, found.add)
        if node is not None
        for value in node.inputs
        if value is not None and value not in (data, result)
    )
    stored = [value.const_value for value in others if value.const_value is not None]
    cut = all(len(each.shape) == 0 or each.shape[-1] in (1, found.columns) for each in stored)
    return cut and len(stored) == len(others) and (found.view is None or _keeps_columns(found.view, found.columns))


def _keeps_columns(view: ir.Node, columns: int) -> bool:
    """Whether a Reshape keeps the last axis, and its shape says so in a number of its own."""
    shape = view.inputs[1]
    if _last(view.outputs[0]) != columns or shape is None:
        return False
    if shape.const_value is not None:
        return True
    joined = shape.producer()
    last = joined.inputs[-1] if joined is not None and joined.op_type == "Concat" else None
    return last is not None and last.const_value is not None and last.const_value.numpy().tolist() == [columns]


def _last(value: ir.Value) -> object:
    return value.shape[-1] if value.shape else None
