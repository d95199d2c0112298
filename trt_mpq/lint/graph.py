"""A graph with explicit Q/DQ, as the rules ask about it, whoever wrote it.

Exporters differ: constants are initializers or Constant nodes, weights are stored as codes or as floats
with a quantizer behind them, and a Transpose may stand between a weight and its reader. What differs ends here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.shape_inference
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from trt_mpq.errors import ModelError
from trt_mpq.graph import onnx_api
from trt_mpq.graph.control_flow import close_bodies
from trt_mpq.graph.edit import eliminate_identities
from trt_mpq.graph.interface import free_axes
from trt_mpq.graph.operators import COMMUTING, DEQUANTIZE, QUANTIZE, WEIGHTED

_CUSTOM_CODES = {"TRT_FP8": ir.DataType.FLOAT8E4M3FN, "TRT_INT4": ir.DataType.INT4}
"""Prefix of Model Optimizer's operators of the `trt` domain to the codes they write, which have no zero point."""

CARRYING = COMMUTING | {"Pad", "Tile"}
"""Operators across which TensorRT carries Q and DQ. A Pad is taken to pad with zeros, whose code is 0 in any scale."""

WEIGHT_ONLY = frozenset({ir.DataType.INT4, ir.DataType.FLOAT4E2M1})
"""Types of codes that TensorRT takes for weights only."""
OPERANDS = 2
"""Of a weighted operator, the first inputs are those it multiplies."""
TENSORRT_CODES = WEIGHT_ONLY | {ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN}
"""Types of codes that TensorRT has."""


@dataclass(frozen=True)
class Step:
    """One QuantizeLinear or DequantizeLinear.

    Attributes:
        node: The node.
        quantizes: Whether it makes codes out of floats, rather than floats out of codes.
        source: What it reads.
        result: What it writes.
        scale: Its scale, None if it has none.
        zero: Its zero point, None if it has none.
        axis: Axis of a scale with one value per channel.
        codes: Type of the codes, None if unknown.
    """

    node: ir.Node
    quantizes: bool
    source: ir.Value
    result: ir.Value
    scale: ir.Value | None
    zero: ir.Value | None
    axis: int
    codes: ir.DataType | None

    @property
    def floats(self) -> ir.DataType | None:
        """Type on the other side of the codes."""
        return (self.source if self.quantizes else self.result).dtype

    @property
    def steps(self) -> NDArray[Any] | None:
        """The scale as float64, None if it is not stored in the model."""
        stored = None if self.scale is None else self.scale.const_value
        return None if stored is None else stored.numpy().astype(np.float64)

    @property
    def blocked(self) -> bool:
        """Whether the scale holds for blocks along the axis, as weight-only formats have it."""
        return self.node.attributes.get_int("block_size", 0) > 0

    @property
    def in_blocks(self) -> bool:
        """Whether there is more than one block, so that scales differ along the axis."""
        shape = dims(self.scale)
        return self.blocked and shape is not None and self.axis < len(shape) and shape[self.axis] > 1

    def same_scale(self, other: Step) -> bool:
        """Whether both map floats to codes alike; also said of scales that are not stored in the model."""
        mine, theirs = self.steps, other.steps
        if mine is None or theirs is None:
            return True
        return mine.size == theirs.size and bool(np.array_equal(mine.ravel(), theirs.ravel(), equal_nan=True))


class QdqGraph:
    """Answers the questions the rules ask. `model` is not changed.

    The first dimension of an input counts as the batch: a dynamic one is taken as 1.

    Attributes:
        graph: A copy of the graph, with functions inlined, constants as initializers, shapes as far as they follow, and
            bodies of control flow closed.
        opset: Its opset.
        weak: Whether it is our weakly typed flavour.
        batch_is_free: Whether an input's first dimension is dynamic.
        order: Node to its position.
        steps: Every Q and DQ in network order.
        parameters: Every Q and DQ but those DQ whose Q speaks for them.
        quantizers: Every Q of something that is computed or fed.
        dequantizers: Every DQ.

    Raises:
        ModelError: The graph is not valid ONNX.
    """

    def __init__(self, model: ir.Model) -> None:
        copy = _normalized(model)
        self.graph = copy.graph
        self.opset = copy.opset_imports.get("", copy.opset_imports.get("ai.onnx", 1))
        self.weak = model.metadata_props.get("trt_mpq.flavour") == "weak"
        self.batch_is_free = any(
            isinstance(value.shape[0], ir.SymbolicDim) for value in model.graph.inputs if value.shape
        )
        _infer_shapes(copy)
        close_bodies(copy.graph)
        self._made_by: dict[ir.Value, Step] = {}
        self._constant = set(self.graph.initializers.values())
        for node in self.graph:
            if step := _step(node):
                self._made_by[step.result] = step
            inputs = [value for value in node.inputs if value is not None]
            if inputs and self._constant.issuperset(inputs):
                self._constant.update(node.outputs)
        self.order = {node: position for position, node in enumerate(self.graph)}
        self.steps = tuple(self._made_by.values())
        self.dequantizers = tuple(step for step in self.steps if not step.quantizes)
        self.quantizers = tuple(step for step in self.steps if step.quantizes and not self.is_constant(step.source))
        self.parameters = tuple(step for step in self.steps if step.quantizes or self.quantizer_of(step) is None)

    def weighted(self) -> Iterator[ir.Node]:
        """Every Conv, ConvTranspose, Gemm and MatMul."""
        return (node for node in self.graph if node.op_type in WEIGHTED)

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value is stored in the model, or follows from what is."""
        return value in self._constant

    def weight_index(self, node: ir.Node) -> int:
        """Which input of a weighted operator is its weight: the constant one, of two alike the second."""
        first, second = (self.is_constant(value) for value in node.inputs[:OPERANDS])
        return 0 if first and not second else 1

    def operands(self, node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
        """What a weighted operator multiplies: its data and its weight."""
        index = self.weight_index(node)
        return node.inputs[1 - index], node.inputs[index]

    def step(self, value: ir.Value | None) -> Step | None:
        """The Q or DQ that writes `value`."""
        return None if value is None else self._made_by.get(value)

    def quantizer_of(self, dequantizer: Step) -> Step | None:
        """The Q whose codes a DQ reads, also across operators that move codes about."""
        step = self.step(self.root(dequantizer.source))
        return step if step is not None and step.quantizes else None

    def dequantizers_of(self, quantizer: Step) -> tuple[Step, ...]:
        """Every DQ that reads the codes of a Q."""
        found = (self.step(node.outputs[0]) for node, index in self.readers(quantizer.result) if index == 0)
        return tuple(step for step in found if step is not None and not step.quantizes)

    def origin(self, dequantizer: Step) -> ir.Value:
        """What the codes stand for: the tensor or constant that was quantized, or the stored codes."""
        quantizer = self.quantizer_of(dequantizer)
        return dequantizer.source if quantizer is None else quantizer.source

    def root(self, value: ir.Value) -> ir.Value:
        """`value`, or what it was before commuting operators."""
        node = value.producer()
        while node is not None and node.op_type in CARRYING and node.inputs[0] is not None:
            value = node.inputs[0]
            node = value.producer()
        return value

    def dequantizer_before(self, value: ir.Value | None) -> Step | None:
        """The DQ that `value` comes from, directly or across commuting operators."""
        step = None if value is None else self.step(self.root(value))
        return None if step is None or step.quantizes else step

    def dequantized(self, value: ir.Value | None) -> Step | None:
        """The same, or the first of them, also across a Cast and a Concat of nothing but dequantized tensors."""
        if value is None:
            return None
        node = self.root(value).producer()
        if node is None or node.op_type not in ("Cast", "Concat"):
            return self.dequantizer_before(value)
        joined = [self.dequantized(operand) for operand in node.inputs]
        known = [step for step in joined if step is not None]
        return known[0] if known and len(known) == len(joined) and len({step.codes for step in known}) == 1 else None

    def in_eight_bit(self, node: ir.Node) -> bool:
        """Whether both operands of a weighted operator are dequantized."""
        return all(self.dequantized(value) is not None for value in node.inputs[:OPERANDS])

    def readers(self, value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
        """Who reads `value`, directly or across commuting operators."""
        following = [value]
        while following:
            for node, index in following.pop().uses():
                if node.op_type in CARRYING and index == 0:
                    following.extend(node.outputs)
                else:
                    yield node, index

    def repeated(self) -> Iterator[tuple[str, Step, list[Step]]]:
        """Tensors with more than one Q of a type: their name, the first Q, the others."""
        by_tensor: dict[tuple[ir.Value, ir.DataType | None], list[Step]] = defaultdict(list)
        for step in self.quantizers:
            by_tensor[step.source, step.codes].append(step)
        for (tensor, _), (first, *others) in by_tensor.items():
            if others:
                yield str(tensor.name), first, others

    def is_requantized(self, value: ir.Value) -> bool:
        """Whether a Q reads `value`, directly or across commuting operators."""
        return any(node.op_type in QUANTIZE and index == 0 for node, index in self.readers(value))

    def products_of_unlike(self, concat: ir.Node) -> tuple[ir.Node, ...]:
        """Weighted operators that multiply what a Concat joins, if all of it is dequantized, with different scales."""
        steps = [self.dequantizer_before(value) for value in concat.inputs if value is not None]
        known = [step for step in steps if step is not None]
        if len(known) < len(steps) or all(step.same_scale(known[0]) for step in known):
            return ()
        readers = self.readers(concat.outputs[0])
        return tuple(node for node, index in readers if node.op_type in WEIGHTED and index < OPERANDS)

    def branch(self, value: ir.Value | None) -> ir.Node | None:
        """The weighted operator that writes `value`, perhaps with a constant Add behind it."""
        node = None if value is None else value.producer()
        if node is not None and node.op_type == "Add":
            operands = [operand for operand in node.inputs if not self.is_constant(operand)]
            if len(operands) != 1 or operands[0] is None:
                return None
            node = operands[0].producer()
        return node if node is not None and node.op_type in WEIGHTED else None


def name_of(node: ir.Node) -> str:
    """The node's name, or one made of its operator and output."""
    return node.name or f"{node.op_type} of {node.outputs[0].name}"


def names_of(values: Iterable[ir.Value | None]) -> tuple[str, ...]:
    """Names of the tensors that are there."""
    return tuple(str(value.name) for value in values if value is not None)


def dims(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a tensor if all of it is known."""
    if value is None or value.shape is None:
        return None
    known = tuple(dim for dim in value.shape if isinstance(dim, int))
    return known if len(known) == len(value.shape) else None


def _normalized(model: ir.Model) -> ir.Model:
    try:
        copy = model.clone()
        passes.InlinePass()(copy)
    except (RuntimeError, ValueError, ir.passes.PassError, ir.passes.InvariantError) as error:
        raise _invalid(error) from error
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    eliminate_identities(copy.graph)
    free_axes(copy)
    for value in copy.graph.inputs:
        if value.shape is not None and len(value.shape) and isinstance(value.shape[0], ir.SymbolicDim):
            value.shape = ir.Shape([1, *list(value.shape)[1:]])
    return copy


def _infer_shapes(model: ir.Model) -> None:
    """Note types and shapes as far as they follow; operators of other domains leave gaps."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    try:
        inferred = onnx_api.inferred(onnx_api.light_proto(model), strict=False)
    except onnx.shape_inference.InferenceError as error:
        raise _invalid(error) from error
    known = ir.convenience.create_value_mapping(ir.from_proto(inferred).graph)
    for name, value in ir.convenience.create_value_mapping(model.graph).items():
        if name in known and value.const_value is None:
            value.shape = known[name].shape or value.shape
            value.type = known[name].type or value.type


def _invalid(error: Exception) -> ModelError:
    return ModelError(f"the graph is not valid ONNX: {onnx_api.first_line(error)}")


def _step(node: ir.Node) -> Step | None:
    quantizes = node.op_type in QUANTIZE
    if not (quantizes or node.op_type in DEQUANTIZE) or node.inputs[0] is None:
        return None
    scale, zero = (node.inputs[i] if i < len(node.inputs) else None for i in (1, 2))
    source, result = node.inputs[0], node.outputs[0]
    rank = None if source.shape is None else len(source.shape)
    axis = node.attributes.get_int("axis", 1)
    return Step(
        node, quantizes, source, result, scale, zero,
        axis=axis + rank if axis < 0 and rank is not None else axis,
        codes=_codes(node, zero, result if quantizes else source),
    )  # fmt: skip


def _codes(node: ir.Node, zero: ir.Value | None, stored: ir.Value) -> ir.DataType | None:
    for prefix, codes in _CUSTOM_CODES.items():
        if node.op_type.startswith(prefix):
            return codes
    if zero is not None and zero.dtype is not None:
        return zero.dtype
    return stored.dtype
