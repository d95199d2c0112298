"""Q, K and V that one product computes side by side, spelled as a product each.

Exporters of vision transformers write one product, a view with an axis of three, perhaps a Transpose, and then take
that axis apart. Where NVIDIA's compiler recognizes it, it cuts the weight into three itself, and then a quantized
weight is dequantized by a kernel of its own and the product runs in FP16 (seen in kernels of TensorRT for RTX 1.7.1).
Three products of one tensor it runs in 8 bit, and they are one group (`groups.grouping`). The numbers are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trt_mpq.graph.edit import constant_array, sole_reader
from trt_mpq.graph.replacement import Replacement, replace


@dataclass(frozen=True)
class _Part:
    """What `axis` holds at `index`, and the nodes that take it, the last of which writes it."""

    axis: int
    index: int
    nodes: tuple[ir.Node, ...]

    @property
    def output(self) -> ir.Value:
        return self.nodes[-1].outputs[0]


@dataclass(frozen=True)
class _Packed:
    """``Transpose(Reshape(data @ weight + bias))``; `add` and `turn` may be absent."""

    product: ir.Node
    add: ir.Node | None
    view: ir.Node
    turn: ir.Node | None
    parts: tuple[_Part, ...]

    @property
    def leading(self) -> int:
        """How many axes of the view are those of the product."""
        return len(_shape(self.product.outputs[0])) - 1

    @property
    def sizes(self) -> list[int]:
        """Sizes of the other axes of the view; shorter if some are unknown."""
        return [size for size in _shape(self.view.outputs[0])[self.leading :] if isinstance(size, int)]

    @property
    def order(self) -> list[int]:
        """Axis of the view of every axis of what the parts are taken from."""
        axes = list(range(len(_shape(self.view.outputs[0]))))
        return axes if self.turn is None else list(self.turn.attributes["perm"].as_ints())

    @property
    def nodes(self) -> list[ir.Node]:
        """All nodes that are replaced, readers first."""
        chain = [node for node in (self.turn, self.view, self.add) if node is not None]
        taken = dict.fromkeys(node for part in self.parts for node in reversed(part.nodes))
        return [*sorted(taken, key=lambda node: node.op_type == "Split"), *chain, self.product]


def unpack_projection(graph: ir.Graph, product: ir.Node) -> None:
    """Replace the MatMul `product` by one for each part that is taken out of its result, if it is of that kind."""
    packed = _packed(product)
    if packed is None or not _is_whole(packed):
        return
    sizes = packed.sizes
    for part in packed.parts:
        axis = packed.order[part.axis]
        rest = [size for place, size in enumerate(sizes, packed.leading) if place != axis]
        order = [place - (place > axis) for place in packed.order if place != axis]
        writer, named = Replacement(graph, product), f"part{part.index}"
        value = _product(writer, packed, sizes, part.index, axis - packed.leading)
        value = writer.reshape(value, [0] * packed.leading + rest, f"{named}.view")
        replace(part.output, writer.transpose(value, order, named))
    graph.remove(packed.nodes, safe=True)


def _product(writer: Replacement, packed: _Packed, sizes: list[int], index: int, axis: int) -> ir.Value:
    """The product of the data and the part of the weight, with the part of the bias."""
    data, weight = packed.product.inputs[:2]
    assert data is not None
    assert weight is not None
    named = f"part{index}"
    name = packed.product.name if index == 0 else packed.product.name and f"{packed.product.name}.{index}"
    own = writer.constant(_cut(weight, sizes, index, axis), f"{weight.name}.{named}")
    value = writer.emit("MatMul", [data, own], f"{named}.product", name=name)
    if packed.add is None:
        return value
    bias = next(value for value in packed.add.inputs if value is not None and value.const_value is not None)
    return writer.emit(
        "Add", [value, writer.constant(_cut(bias, sizes, index, axis), f"{bias.name}.{named}")], f"{named}.bias",
        name=packed.add.name and f"{packed.add.name}.{index}",
    )  # fmt: skip


def _cut(constant: ir.Value, sizes: list[int], index: int, axis: int) -> np.ndarray:
    """What a constant has on its last axis, seen as `sizes`, at `index` of `axis`."""
    content = constant_array(constant)
    apart = content.reshape(*content.shape[:-1], *sizes)
    return np.ascontiguousarray(apart.take(index, content.ndim - 1 + axis).reshape(*content.shape[:-1], -1))


def _packed(product: ir.Node) -> _Packed | None:
    weight = product.inputs[1]
    if weight is None or weight.const_value is None or len(weight.const_value.shape) != 2:
        return None
    add = sole_reader(product.outputs[0], "Add")
    if add is not None and not any(v is not None and v.const_value is not None for v in add.inputs):
        return None
    view = sole_reader((add or product).outputs[0], "Reshape")
    if view is None:
        return None
    turn = sole_reader(view.outputs[0], "Transpose")
    parts = tuple(_parts((turn or view).outputs[0]))
    return _Packed(product, add, view, turn, parts) if parts else None


def _is_whole(packed: _Packed) -> bool:
    """Whether the view cuts the last axis alone, and the parts are all that one of its axes holds."""
    axes = {packed.order[part.axis] for part in packed.parts}
    if not _cuts_the_last_axis(packed) or len(axes) > 1 or min(axes) < packed.leading:
        return False
    held = sorted(part.index for part in packed.parts)
    read_outside = any(part.output.is_graph_output() for part in packed.parts)
    return held == list(range(packed.sizes[min(axes) - packed.leading])) and len(held) > 1 and not read_outside


def _cuts_the_last_axis(packed: _Packed) -> bool:
    before, after = _shape(packed.product.outputs[0]), _shape(packed.view.outputs[0])
    known = len(packed.sizes) == len(after) - packed.leading and math.prod(packed.sizes) == before[-1]
    kept = before[:-1] == after[: packed.leading] and before.count(None) <= 1  # one unknown follows from the others
    constants = (value.const_value for value in (packed.add.inputs if packed.add else ()) if value is not None)
    return known and kept and all(constant is None or constant.size == before[-1] for constant in constants)


def _parts(value: ir.Value) -> Iterator[_Part]:
    """How readers take an axis of `value` apart; nothing if one of them does something else."""
    found = [list(_taken_by(use.node, use.idx)) for use in value.uses()]
    if not value.is_graph_output() and all(found):
        yield from (part for parts in found for part in parts)


def _taken_by(reader: ir.Node, index: int) -> Iterable[_Part]:
    if index != 0:
        return []
    if reader.op_type == "Gather":
        chosen = reader.inputs[1]
        scalar = chosen is not None and chosen.const_value is not None and len(chosen.const_value.shape) == 0
        axis = reader.attributes.get_int("axis", 0)
        return [_Part(axis, int(chosen.const_value.numpy()), (reader,))] if scalar and axis >= 0 else []  # type: ignore[union-attr]
    if reader.op_type == "Slice":
        return _sliced(reader)
    return _split(reader) if reader.op_type == "Split" else []


def _sliced(reader: ir.Node) -> Iterable[_Part]:
    bounds = [_integers(value) for value in reader.inputs[1:]]
    squeeze = sole_reader(reader.outputs[0], "Squeeze")
    if len(bounds) < 3 or squeeze is None or any(bound is None or len(bound) != 1 for bound in bounds):
        return []
    (start,), (end,), (axis,), *_ = (bound or [] for bound in bounds)
    one = end == start + 1 and axis >= 0 and start >= 0 and _integers(squeeze.inputs[1]) == [axis]
    return [_Part(axis, start, (reader, squeeze))] if one else []


def _split(reader: ir.Node) -> Iterable[_Part]:
    axis = reader.attributes.get_int("axis", 0)
    squeezes = [sole_reader(value, "Squeeze") for value in reader.outputs]
    ones = all(_shape(value)[axis : axis + 1] == (1,) for value in reader.outputs)
    if not ones or any(node is None or _integers(node.inputs[1]) != [axis] for node in squeezes):
        return []
    return [_Part(axis, place, (reader, node)) for place, node in enumerate(squeezes) if node is not None]


def _integers(value: ir.Value | None) -> list[int] | None:
    """The content of a stored vector of integers."""
    return None if value is None or value.const_value is None else value.const_value.numpy().reshape(-1).tolist()


def _shape(value: ir.Value) -> tuple[int | str | None, ...]:
    """Sizes, names of those that are not known, None without a name; empty if even the rank is unknown."""
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape or ())
