"""The one place where a plan becomes a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from trt_mpq.emit import float_types, quantizers
from trt_mpq.emit.bias import add_to_bias
from trt_mpq.emit.blocks import multiply_rows
from trt_mpq.emit.patches import as_columns, multiply_patches
from trt_mpq.emit.quantizers import QuantizerWriter
from trt_mpq.emit.refinements import Refinements
from trt_mpq.emit.weights import insert_stored_weight, insert_weight_qdq
from trt_mpq.errors import ModelError
from trt_mpq.graph.control_flow import reads
from trt_mpq.graph.edit import add_constant, constant_array
from trt_mpq.graph.interface import Interface
from trt_mpq.graph.operators import VALUE_BLIND, VALUE_PRESERVING
from trt_mpq.graph.opset import WEAK_OPSET, convert_opset
from trt_mpq.numerics import BoolArray, FloatArray, QuantizedWeight, constant_in_half, quantize_weight
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan, Ranges, Weight

_NodesByName = Mapping[str, ir.Node]

_WeightWriter = Callable[[ir.Graph, ir.Node, Weight, Precision, BoolArray | None], ir.Value]
"""Gives the constant (or dequantized codes) that a node of a quantized group reads as weight, rounded as learned."""

_IR_VERSIONS = {19: 9, 21: 10, 22: 10, 23: 11}
"""The file format version that has the types of an opset."""

_WEAK_TENSORRT = (8, 6)


class Emitter:
    """Writes plans of one prepared model as graphs, in three flavours that mean the same.

    Weights are rounded once per (initializer, precision) and remembered, so that the evaluations of a
    search share them.

    Args:
        graph: The prepared FP32 graph; never changed.
        grouping: Its groups.
        ranges: Calibrated ranges of every quantized tensor.
        refinements: Learned roundings and bias corrections to apply.
    """

    def __init__(
        self, graph: ir.Model, grouping: Grouping, ranges: Ranges, refinements: Refinements | None = None
    ) -> None:
        self._graph, self._grouping, self._ranges = graph, grouping, ranges
        self._refinements = refinements or Refinements()
        self._side_by_side = {weight.name: group.weights for group in grouping.groups for weight in group.weights}
        self._folded: dict[tuple[str, Precision], FloatArray] = {}
        self._halves: dict[Precision, frozenset[str]] = {}

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        """The groups of the network, in its order."""
        return self._grouping.groups

    @property
    def interface(self) -> Interface:
        """The inputs and outputs of the network, which every flavour keeps."""
        return Interface.of(self._graph)

    def reference(self, plan: PrecisionPlan) -> ir.Model:
        """The FP32 graph that computes what `plan` means, for the reference runtime.

        Weights are folded to the values they stand for; activations go through quantizers
        (`quantizers.insert_fake_quantizer`) and Cast pairs (`float_types.round_to_half`). Dequantized values are
        not rounded to FP16 or BF16, although *strong* gives them that type: a fused kernel sums codes, and applies the
        scales to the sum.
        """
        model = self._start(self._graph.clone(), plan, "reference")
        nodes = _nodes_by_name(model.graph)
        float_types.round_to_half(model, self._float_types(plan), self._rounded)
        return self._quantized(model, nodes, plan, self._folded_weight, quantizers.insert_fake_quantizer)

    def strong(self, plan: PrecisionPlan) -> ir.Model:
        """The strongly typed graph (TensorRT 10 and 11): FP16 or BF16 tensors, Q/DQ, weights stored as codes.

        Opset 19 at least, because QuantizeLinear accepts FP16 and FP8 only from there; a format says what it needs.
        """
        opset = max(precision.spec.opset for precision in {Precision.FP32, *self.precisions(plan)})
        model = self._start(self._at_opset(max(opset, self._opset)), plan, "strong")
        model.ir_version = max(model.ir_version, _IR_VERSIONS[opset])
        nodes = _nodes_by_name(model.graph)
        float_types.cast_to_half(model, self._float_types(plan))
        multiply_rows(model.graph, (nodes[name] for name in self._in_blocks(plan)))
        for weight in self._of_patches(plan):
            multiply_patches(model.graph, nodes[weight.node], weight.patches)
        return self._quantized(model, nodes, plan, self._stored_weight, quantizers.insert_qdq)

    def weak(self, plan: PrecisionPlan) -> ir.Model:
        """The weakly typed graph (TensorRT 8.6): FP32 at opset 17 or below with INT8 Q/DQ, weights included.

        FP16 and FP32 groups are told apart by builder constraints (`constraints`), not by this graph; what runs in BF16
        because FP16 cannot hold it is FP32 here, which holds more. Weights stay FP32 with a quantizer behind them, as
        NVIDIA's own exporter for TensorRT 8 writes them: earlier 8.x versions refuse INT8 constants ("invalid weights
        type of Int8"), and nothing says that 8.6 takes them.

        Raises:
            ModelError: The plan holds a format that TensorRT 8.6 cannot import, or BF16 as its high precision.
        """
        unsupported = [p for p in plan.counts() if p.quantized and p.spec.tensorrt > _WEAK_TENSORRT]
        if unsupported:
            since = ".".join(map(str, unsupported[0].spec.tensorrt))
            raise ModelError(
                f"the weakly typed flavour (TensorRT 8.6) cannot hold {unsupported[0]}: it imports INT8 only, and from "
                f"TensorRT {since} on --typing strong has it"
            )
        if self._grouping.top is Precision.BF16:
            raise ModelError(
                "the weakly typed flavour (TensorRT 8.6) cannot hold bf16, which that version does not have: search "
                "with fp16 in its place"
            )
        model = self._start(self._at_opset(min(WEAK_OPSET, self._opset)), plan, "weak")
        nodes = _nodes_by_name(model.graph)
        return self._quantized(model, nodes, plan, self._quantized_weight, quantizers.insert_qdq)

    def precisions(self, plan: PrecisionPlan) -> frozenset[Precision]:
        """What the strong flavour holds: formats of groups, and the types of everything else."""
        return frozenset((*plan.counts(), *self._float_types(plan).values()))

    def constraints(self, plan: PrecisionPlan, *, eight_bit: bool = False) -> dict[str, Precision]:
        """Node of the weak flavour to the precision it has to be pinned to (`layer.precision`), in network order.

        Listed are the nodes of groups that run in high precision, and loose ops: FP16 if the strong flavour has
        them in FP16, else FP32, which also stands in for BF16. Not listed: nodes of 8-bit groups and Q/DQ, which say
        themselves what they run in; loose ops in FP16 that preserve values, because pinned they would keep TensorRT
        from moving Q and DQ across; Cast, whose types are its meaning; and what computes shapes instead of data.
        With `eight_bit`, what computes in 8 bit is listed too, see `eight_bit_layers`.
        """
        precisions = plan.as_dict()
        wide = {name for group in self._grouping.groups if not precisions[group.id].quantized for name in group.nodes}
        loose = {op.node: op.op_type for op in self._grouping.loose}
        half = {name for name, precision in self._float_types(plan).items() if precision is Precision.FP16}
        free = {name for name, op_type in loose.items() if op_type in VALUE_PRESERVING and name in half}
        told = {
            name: Precision.FP16 if name in half else Precision.FP32
            for name in _nodes_on_data(self._graph.graph)
            if name in wide or (name in loose and name not in free)
        }
        return told | (self.eight_bit_layers(plan) if eight_bit else {})

    def eight_bit_layers(self, plan: PrecisionPlan) -> dict[str, Precision]:
        """Node of the weak flavour that computes in 8 bit to its precision, in network order: what reads quantizers.

        Its Q/DQ say so too; a builder that is told layer by layer is told it again.
        """
        precisions = plan.as_dict()
        return {
            read.node: precisions[group.id]
            for group in self._grouping.groups
            if precisions[group.id].quantized
            for read in group.inputs
        }

    def weight_choices(self, weight: Weight, precision: Precision) -> tuple[FloatArray, FloatArray]:
        """The values below and above every element of `weight` that `precision` has; both in the weight's shape."""
        up = np.ones(weight.shape, bool)
        low, high = (self.quantized_weight(weight, precision, choice).values for choice in (~up, up))
        return low, high

    def quantized_weight(self, weight: Weight, precision: Precision, up: BoolArray | None = None) -> QuantizedWeight:
        """A weight as it is stored in `precision`: as refinement found it, else rounded to nearest or as `up` says.

        What runs as one product has one scale of scales: with several NVIDIA's compiler makes a product of each.
        """
        refined = self._refinements.weights.get((weight.name, precision))
        if refined is not None:
            return refined
        contents = [constant_array(self._graph.graph.initializers[w.name]) for w in self._side_by_side[weight.name]]
        largest = max(float(np.abs(content).max(initial=0.0)) for content in contents)
        content = constant_array(self._graph.graph.initializers[weight.name])
        return quantize_weight(content, weight.axis, precision, self._grouping.top, up=up, largest=largest)

    @property
    def _opset(self) -> int:
        return self._graph.opset_imports[""]

    def _at_opset(self, opset: int) -> ir.Model:
        return self._graph.clone() if opset == self._opset else convert_opset(self._graph, opset)

    def _capable(self, half: Precision) -> frozenset[str]:
        if half not in self._halves:
            self._halves[half] = float_types.half_capable(self._graph, self._ranges, half)
        return self._halves[half]

    def _float_types(self, plan: PrecisionPlan) -> dict[str, Precision]:
        """The half type of every node that has one: its group's own, else the high precision or its refuge."""
        precisions, high = plan.as_dict(), (self._grouping.top, self._grouping.refuge)
        loose = {op.node: tuple(filter(op.allows, high)) for op in self._grouping.loose}
        own = {
            name: (precisions[group.id],)
            for group in self._grouping.groups
            if not precisions[group.id].quantized
            for name in group.nodes
        }
        types: dict[str, Precision] = {}
        for name in (str(node.name) for node in self._graph.graph):
            choices = own.get(name) or loose.get(name, high)
            halves = (p for p in choices if p is not Precision.FP32 and name in self._capable(p))
            if (half := next(halves, None)) is not None:
                types[name] = half
        return types

    def _start(self, model: ir.Model, plan: PrecisionPlan, flavour: str) -> ir.Model:
        model.metadata_props["trt_mpq.plan"] = plan.digest
        model.metadata_props["trt_mpq.flavour"] = flavour
        model.metadata_props["trt_mpq.deployable"] = str(plan.deployable).lower()
        corrections = self._refinements.corrections_of(plan)
        for group, precision in quantizers.quantized_groups(self._grouping, plan):
            for weight in group.weights:
                delta = corrections.get((weight.node, precision))
                if delta is not None:
                    add_to_bias(model.graph, group, weight, delta)
        return model

    def _rounded(self, constant: ir.Value, half: Precision) -> FloatArray:
        if constant.name not in self._graph.graph.initializers:  # made for this plan, such as a corrected bias
            return constant_in_half(constant_array(constant), half).astype(np.float32)
        key = (str(constant.name), half)
        if key not in self._folded:
            self._folded[key] = constant_in_half(constant_array(constant), half).astype(np.float32)
        return self._folded[key]

    def _folded_weight(
        self, graph: ir.Graph, node: ir.Node, weight: Weight, precision: Precision, up: BoolArray | None
    ) -> ir.Value:
        key = (weight.name, precision)
        shared = up is self._refinements.roundings.get(key)
        folded = self._folded.get(key) if shared else None
        if folded is None:
            folded = self.quantized_weight(weight, precision, up).values
        if shared:
            self._folded[key] = folded
        return add_constant(graph, f"{weight.name}_{precision}", folded)

    def _stored_weight(
        self, graph: ir.Graph, node: ir.Node, weight: Weight, precision: Precision, up: BoolArray | None
    ) -> ir.Value:
        quantized = self.quantized_weight(weight, precision, up)
        quantized = as_columns(quantized) if weight.of_patches(precision) else quantized
        dtype = _input(node, weight.index).dtype or ir.DataType.FLOAT
        return insert_stored_weight(graph, quantized, precision, f"{weight.name}_{precision}", dtype=dtype, before=node)

    def _quantized_weight(
        self, graph: ir.Graph, node: ir.Node, weight: Weight, precision: Precision, up: BoolArray | None
    ) -> ir.Value:
        refined = self._refinements.weights.get((weight.name, precision))
        return insert_weight_qdq(graph, _input(node, weight.index), weight.axis, precision, up, node, refined)

    def _quantized(
        self, model: ir.Model, nodes: _NodesByName, plan: PrecisionPlan, weight: _WeightWriter, read: QuantizerWriter
    ) -> ir.Model:
        self._replace_weights(model.graph, nodes, plan, weight)
        self._quantize_reads(model.graph, nodes, plan, read)
        return _tidied(model)

    def _in_blocks(self, plan: PrecisionPlan) -> Iterator[str]:
        """Names of the MatMuls with a weight to the right whose operands both have scales of blocks."""
        for group, precision in quantizers.quantized_groups(self._grouping, plan):
            if precision.spec.activations is not None and precision.spec.activations.blocks:
                yield from (w.node for w in group.weights if w.index == 1 and group.op_type == "MatMul")

    def _of_patches(self, plan: PrecisionPlan) -> Iterator[Weight]:
        """Weights of the convolutions that run as products of patches."""
        for group, precision in quantizers.quantized_groups(self._grouping, plan):
            yield from (weight for weight in group.weights if weight.of_patches(precision))

    def _replace_weights(self, graph: ir.Graph, nodes: _NodesByName, plan: PrecisionPlan, write: _WeightWriter) -> None:
        made: dict[tuple[ir.Value, Precision, str], ir.Value] = {}
        roundings = self._refinements.roundings_of(plan)
        for group, precision in quantizers.quantized_groups(self._grouping, plan):
            for weight in group.weights:
                node = nodes[weight.node]
                key = (_input(node, weight.index), precision, node.op_type)
                if key not in made:
                    up = roundings.get((weight.name, precision))
                    made[key] = write(graph, node, weight, precision, up)
                node.replace_input_with(weight.index, made[key])

    def _quantize_reads(
        self, graph: ir.Graph, nodes: _NodesByName, plan: PrecisionPlan, write: QuantizerWriter
    ) -> None:
        made: dict[tuple[ir.Value, Precision], ir.Value] = {}
        for site, precision, scale in quantizers.activation_reads(self._grouping, plan, self._ranges):
            node = nodes[site.node]
            key = (_input(node, site.index), precision)
            if key not in made:
                made[key] = write(graph, key[0], scale, precision, site.tensor)
            node.replace_input_with(site.index, made[key])


def _nodes_by_name(graph: ir.Graph) -> _NodesByName:
    return {str(node.name): node for node in graph}


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _nodes_on_data(graph: ir.Graph) -> Iterator[str]:
    """Names of the nodes, Casts left out, that work on what is fed, rather than on constants and shapes."""
    data = set(graph.inputs)
    for node in graph:
        if node.op_type not in VALUE_BLIND and not data.isdisjoint(reads(node)):
            data.update(node.outputs)
            if node.op_type != "Cast":
                yield str(node.name)


def _tidied(model: ir.Model) -> ir.Model:
    """`model` without unused constants, and with a number behind each name that was made twice."""
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
    passes.NameFixPass()(model)
    return model
