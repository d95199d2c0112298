"""The one place where a plan becomes a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from trt_mpq.emit import float_types, quantizers
from trt_mpq.errors import ModelError
from trt_mpq.graph_edit import add_constant, constant_array, node_by_name
from trt_mpq.numerics import FloatArray, fake_quantize_weights, round_to_half
from trt_mpq.opset import convert_opset
from trt_mpq.types import Grouping, LayerGroup, Precision, PrecisionPlan, Ranges

WeightWriter = Callable[[ir.Graph, ir.Node, LayerGroup, Precision], ir.Value]
"""Gives the constant (or dequantized codes) that a node of a quantized group reads as its weight."""

BiasCorrections = Mapping[tuple[str, Precision], FloatArray]
"""(group id, precision) to what is added to the group's bias, shape ``(output channels,)``."""

WEAK_OPSET = 17
"""The newest opset TensorRT 8.6 reads."""


class Emitter:
    """Writes plans of one prepared model as graphs, in three flavours that mean the same.

    Weights are rounded once per (initializer, precision) and remembered, so that the evaluations of a
    search share them.

    Args:
        graph: The prepared FP32 graph; never changed.
        grouping: Its groups.
        ranges: Calibrated ranges of every quantized tensor.
        corrections: Bias corrections, applied to a group only in the precision they were measured for.
    """

    def __init__(
        self, graph: ir.Model, grouping: Grouping, ranges: Ranges, corrections: BiasCorrections | None = None
    ) -> None:
        self._graph, self._grouping, self._ranges = graph, grouping, ranges
        self._corrections = corrections or {}
        self._folded: dict[tuple[str, Precision], FloatArray] = {}

    def reference(self, plan: PrecisionPlan) -> ir.Model:
        """The FP32 graph that computes what `plan` means, for the reference runtime.

        Weights are folded to the values they stand for; activations go through plain arithmetic
        (`quantizers.insert_fake_quantizer`) and Cast pairs (`float_types.round_to_half`).
        """
        model = self._start(self._graph.clone(), plan, "reference")
        float_types.round_to_half(model.graph, self._half_nodes(plan), self._rounded)
        self._replace_weights(model.graph, plan, self._folded_weight)
        self._quantize_reads(model.graph, plan, quantizers.insert_fake_quantizer)
        return _without_unused_constants(model)

    def strong(self, plan: PrecisionPlan) -> ir.Model:
        """The strongly typed graph (TensorRT 10 and 11): FP16 tensors, Q/DQ, weights stored as codes.

        Opset 19 at least, because QuantizeLinear accepts FP16 and FP8 only from there (21 for INT4).
        """
        opset = 21 if Precision.INT4 in plan.counts() else 19
        model = self._start(self._at_opset(max(opset, self._opset)), plan, "strong")
        float_types.cast_to_half(model.graph, self._half_nodes(plan))
        self._replace_weights(model.graph, plan, self._stored_weight)
        self._quantize_reads(model.graph, plan, quantizers.insert_qdq)
        return _without_unused_constants(model)

    def weak(self, plan: PrecisionPlan) -> ir.Model:
        """The weakly typed graph (TensorRT 8.6): FP32 at opset 17 or below with INT8 Q/DQ.

        FP16 and FP32 groups are told apart by builder constraints, not by this graph.

        Raises:
            ModelError: The plan holds FP8 or INT4, which TensorRT 8.6 cannot import.
        """
        unsupported = [p for p in plan.counts() if p in (Precision.FP8, Precision.INT4)]
        if unsupported:
            raise ModelError(
                f"the weakly typed flavour (TensorRT 8.6) cannot hold {unsupported[0]}: it imports INT8 only"
            )
        model = self._start(self._at_opset(min(WEAK_OPSET, self._opset)), plan, "weak")
        self._replace_weights(model.graph, plan, self._stored_weight)
        self._quantize_reads(model.graph, plan, quantizers.insert_qdq)
        return _without_unused_constants(model)

    @property
    def _opset(self) -> int:
        return self._graph.opset_imports[""]

    def _at_opset(self, opset: int) -> ir.Model:
        return self._graph.clone() if opset == self._opset else convert_opset(self._graph, opset)

    def _half_nodes(self, plan: PrecisionPlan) -> frozenset[str]:
        return float_types.half_nodes(self._graph.graph, self._grouping, plan, self._ranges)

    def _start(self, model: ir.Model, plan: PrecisionPlan, flavour: str) -> ir.Model:
        model.metadata_props["trt_mpq.plan"] = plan.digest
        model.metadata_props["trt_mpq.flavour"] = flavour
        model.metadata_props["trt_mpq.deployable"] = str(all(p.deployable for p in plan.counts())).lower()
        for group, precision in quantizers.quantized_groups(self._grouping, plan):
            delta = self._corrections.get((group.id, precision))
            if delta is not None:
                add_to_bias(model.graph, group, delta)
        return model

    def _rounded(self, constant: ir.Value) -> FloatArray:
        key = (str(constant.name), Precision.FP16)
        if constant.name not in self._graph.graph.initializers:  # made for this plan, such as a corrected bias
            return round_to_half(constant_array(constant))
        if key not in self._folded:
            self._folded[key] = round_to_half(constant_array(constant))
        return self._folded[key]

    def _folded_weight(self, graph: ir.Graph, node: ir.Node, group: LayerGroup, precision: Precision) -> ir.Value:
        weight = group.weight
        key = (weight.name, precision)
        if key not in self._folded:
            content = constant_array(self._graph.graph.initializers[weight.name])
            self._folded[key] = fake_quantize_weights(content, weight.axis, precision)
        return add_constant(graph, f"{weight.name}_{precision}", self._folded[key])

    def _stored_weight(self, graph: ir.Graph, node: ir.Node, group: LayerGroup, precision: Precision) -> ir.Value:
        source = self._graph.graph.initializers[group.weight.name]
        dtype = node.inputs[self._weight_index(group)].dtype
        return quantizers.insert_stored_weight(graph, source, group.weight.axis, precision, dtype, before=node)

    def _weight_index(self, group: LayerGroup) -> int:
        anchor = node_by_name(self._graph.graph, group.id)
        return next(i for i, value in enumerate(anchor.inputs) if value is not None and value.name == group.weight.name)

    def _replace_weights(self, graph: ir.Graph, plan: PrecisionPlan, quantized: WeightWriter) -> None:
        nodes = {node.name: node for node in graph}
        for group, precision in quantizers.quantized_groups(self._grouping, plan):
            node = nodes[group.id]
            node.replace_input_with(self._weight_index(group), quantized(graph, node, group, precision))

    def _quantize_reads(self, graph: ir.Graph, plan: PrecisionPlan, insert: quantizers.QuantizerWriter) -> None:
        nodes = {node.name: node for node in graph}
        made: dict[tuple[ir.Value, Precision], ir.Value] = {}
        for read in quantizers.activation_reads(self._grouping, plan, self._ranges):
            node, index = nodes[read.site.node], read.site.index
            value = node.inputs[index]
            assert value is not None
            key = (value, read.precision)
            if key not in made:
                made[key] = insert(graph, value, read.scale, read.precision, read.site.tensor)
            node.replace_input_with(index, made[key])


def add_to_bias(graph: ir.Graph, group: LayerGroup, delta: FloatArray) -> None:
    """Add `delta`, shape ``(output channels,)``, to what `group` adds per output channel.

    The group gets a bias of its own, also where several groups shared one. A MatMul without a bias Add
    cannot take one and must not be given a `delta`.
    """
    nodes = {node.name: node for node in graph}
    name = f"{group.id}_corrected_bias"
    if group.bias is None:
        anchor = nodes[group.id]
        anchor.resize_inputs(3)
        anchor.replace_input_with(2, add_constant(graph, name, delta))
        return
    for node in (nodes[n] for n in group.nodes):
        for index, value in enumerate(node.inputs):
            if value is not None and value.name == group.bias:
                beta = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
                bias = constant_array(value)
                shifted = bias + (delta / np.float32(beta)).reshape(_broadcast_shape(bias, delta))
                node.replace_input_with(index, add_constant(graph, name, shifted.astype(np.float32)))
                return


def _broadcast_shape(bias: FloatArray, delta: FloatArray) -> tuple[int, ...]:
    """The shape in which `delta` lines up with a bias of shape ``(C,)``, ``(1, C)`` or ``(1, C, 1, 1)``."""
    return bias.shape if bias.size == delta.size else delta.shape


def _without_unused_constants(model: ir.Model) -> ir.Model:
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
    return model
