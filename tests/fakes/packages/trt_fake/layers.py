"""What the builder makes of a graph: fused layers, their precisions, and reformats where these change.

The rules are a plain reading of NVIDIA's documentation, written independently of the product's own grouping:
a weighted operator takes the pointwise operators that follow it; a Q or DQ beside such a layer vanishes; a Q behind
a layer that computes in floating point stays as a reformat; any other Q or DQ stays as a layer of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trt_fake.engine_layer import Border, Layer
from trt_fake.kernels import WEIGHTED, flops, kind
from trt_fake.onnx_graph import Graph

FOLLOWING = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Add", "Mul", "BatchNormalization")
QUANTIZABLE = ("MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""Operators without weights that read a dequantized tensor in 8 bits."""

_FLOATS = ("fp32", "fp16", "bf16")
_REFORMAT = "Reformatting CopyNode for Input Tensor {} to {}"


@dataclass(frozen=True)
class Request:
    """What decides precisions in a weakly typed network.

    Attributes:
        fp16: Whether FP16 is allowed.
        int8: Whether INT8 is allowed.
        layers: ONNX node to the precision that was asked for and must be obeyed.
    """

    fp16: bool = False
    int8: bool = False
    layers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Draft:
    """A layer while the graph is read: node positions, the anchor first."""

    nodes: list[int]
    reads: list[str] = field(default_factory=list)
    writes: str = ""
    precision: str = "fp32"
    quantized: bool = False


class Fuser:
    """Reads one graph.

    Args:
        graph: The model, with concrete shapes.
        weak: What decides precisions if the network is weakly typed, else None.
        int8_ignored: Nodes whose INT8 is silently replaced by FP16.
        hidden: Nodes whose layers become opaque.
    """

    def __init__(
        self, graph: Graph, weak: Request | None, int8_ignored: tuple[str, ...] = (), hidden: tuple[str, ...] = ()
    ) -> None:
        self._graph, self._weak, self._ignored, self._hidden = graph, weak, int8_ignored, hidden
        self._nodes = graph.nodes
        self._drafts: list[_Draft] = []
        self._owner: dict[int, _Draft] = {}
        self._dtypes: dict[str, str] = {}

    def layers(self) -> list[Layer]:
        """The layers of the engine, in order of execution."""
        self._collect()
        for draft in self._drafts:
            self._decide(draft)
        made: list[Layer] = []
        for draft in sorted(self._drafts, key=lambda draft: max(draft.nodes)):
            made += self._emit(draft)
        return made

    def _collect(self) -> None:
        for index, node in enumerate(self._nodes):
            if index in self._owner or node.output[0] in self._graph.constants or self._is_shape_work(node):
                continue
            draft = _Draft([index], list(node.input), node.output[0])
            if node.op_type in WEIGHTED:
                self._fuse_followers(draft)
            draft.reads = [name for name in draft.reads if name and name not in self._graph.constants]
            self._drafts.append(draft)
            for position in draft.nodes:
                self._owner[position] = draft

    def _is_shape_work(self, node: object) -> bool:
        return self._graph.info(node.output[0]).dtype in ("int64", "bool")

    def _fuse_followers(self, draft: _Draft) -> None:
        added = False
        while draft.writes not in self._graph.outputs:
            readers = self._graph.consumers.get(draft.writes, [])
            if len(readers) != 1:
                return
            node = self._nodes[readers[0]]
            if node.op_type not in FOLLOWING or (node.op_type not in ("Add", "Mul") and node.input[0] != draft.writes):
                return
            others = [name for name in node.input if name != draft.writes and name not in self._graph.constants]
            if others:
                earlier = all(self._origin(name) < draft.nodes[0] for name in others)
                if node.op_type != "Add" or added or not earlier:
                    return
                added = True
                draft.reads += others
            draft.nodes.append(readers[0])
            draft.writes = node.output[0]

    def _origin(self, tensor: str) -> int:
        """Position of the node that computes `tensor`, looking through Q and DQ; -1 for an input."""
        index = self._graph.producer.get(tensor, -1)
        while index >= 0 and self._nodes[index].op_type in ("QuantizeLinear", "DequantizeLinear"):
            index = self._graph.producer.get(self._nodes[index].input[0], -1)
        return index

    def _op(self, draft: _Draft) -> str:
        return str(self._nodes[draft.nodes[0]].op_type)

    def _quantized_source(self, tensor: str) -> str | None:
        """The 8-bit tensor that a DQ reads to give `tensor`, None if it is no DQ's result."""
        index = self._graph.producer.get(tensor, -1)
        if index < 0 or self._nodes[index].op_type != "DequantizeLinear":
            return None
        return str(self._nodes[index].input[0])

    def _absorbs(self, draft: _Draft) -> bool:
        return self._op(draft) in WEIGHTED + QUANTIZABLE

    def _decide(self, draft: _Draft) -> None:
        """Set what the layer computes in."""
        name = str(self._nodes[draft.nodes[0]].name)
        if draft.reads:
            source = self._quantized_source(draft.reads[0])
            if source is not None and self._absorbs(draft):
                draft.precision = self._graph.info(source).dtype
                draft.quantized = True
                if draft.precision == "int8" and name in self._ignored:
                    draft.precision = "fp16"
                return
        declared = self._graph.info(draft.reads[0] if draft.reads else draft.writes).dtype
        draft.precision = declared
        if self._weak is not None and declared in _FLOATS:
            draft.precision = self._weak.layers.get(name, "fp16" if self._weak.fp16 else "fp32")

    def _emit(self, draft: _Draft) -> list[Layer]:
        op = self._op(draft)
        if op == "QuantizeLinear":
            return self._emit_quantize(draft)
        if op == "DequantizeLinear":
            return self._emit_dequantize(draft)
        eight_bit = draft.precision in ("int8", "fp8")
        before, inputs = [], []
        for position, tensor in enumerate(draft.reads):
            source = self._quantized_source(tensor)
            if source is not None and self._absorbs(draft):
                kept = self._border(source)
                inputs.append(kept if eight_bit else replace(kept, dtype=draft.precision))
                continue
            border = self._border(tensor)
            wanted = draft.precision
            if self._weak is not None and not eight_bit and border.dtype in _FLOATS and border.dtype != wanted:
                target = replace(
                    border, name=f"Reformatted Input Tensor {position} to {self._name(draft)}", dtype=wanted
                )
                before.append(self._reformat(_REFORMAT.format(position, self._name(draft)), border, target))
                border = target
            inputs.append(border)
        output = self._output(draft)
        self._dtypes[output.name] = output.dtype
        layer = Layer(
            self._name(draft),
            kind(op),
            op,
            draft.precision,
            tuple(str(self._nodes[index].name) for index in draft.nodes),
            tuple(inputs),
            (output,),
            flops(self._graph, self._nodes[draft.nodes[0]]),
        )
        return [*before, *self._hide(layer), *self._after(layer)]

    def _after(self, layer: Layer) -> list[Layer]:
        """A reformat, if a weakly typed layer writes a network output in another type than the network's."""
        output = layer.outputs[0]
        declared = self._graph.info(output.name).dtype
        if output.name not in self._graph.outputs or output.dtype == declared or output.dtype not in _FLOATS:
            return []
        inner = replace(output, name=f"Reformatted Output Tensor 0 to {layer.name}")
        name = f"Reformatting CopyNode for Output Tensor 0 to {layer.name}"
        return [self._reformat(name, inner, replace(output, dtype=declared))]

    def _output(self, draft: _Draft) -> Border:
        """What the layer writes: 8 bits if a Q that only such layers read follows it directly."""
        quantize = self._vanishing_quantize(draft)
        if quantize is not None:
            return self._border(str(self._nodes[quantize].output[0]))
        border = self._border(draft.writes)
        if border.dtype not in _FLOATS or self._op(draft) == "Cast":
            return border
        if draft.precision not in ("int8", "fp8"):
            return replace(border, dtype=draft.precision)
        weak = "fp16" if self._weak is not None and self._weak.fp16 else border.dtype
        return replace(border, dtype=weak)

    def _vanishing_quantize(self, draft: _Draft) -> int | None:
        """The Q behind an 8-bit layer that is all that reads it."""
        readers = self._graph.consumers.get(draft.writes, [])
        if draft.precision not in ("int8", "fp8") or draft.writes in self._graph.outputs or len(readers) != 1:
            return None
        is_quantize = self._nodes[readers[0]].op_type == "QuantizeLinear"
        return readers[0] if is_quantize and self._feeds_layers(readers[0]) else None

    def _feeds_layers(self, quantize: int) -> list[_Draft]:
        """Layers that read what a Q writes in 8 bits, through their DQ."""
        return [
            self._owner[reader]
            for dequantize in self._graph.consumers.get(self._nodes[quantize].output[0], [])
            for reader in self._graph.consumers.get(self._nodes[dequantize].output[0], [])
            if reader in self._owner and self._absorbs(self._owner[reader])
        ]

    def _emit_quantize(self, draft: _Draft) -> list[Layer]:
        index = draft.nodes[0]
        source = self._border(str(self._nodes[index].input[0]))
        result = self._border(str(self._nodes[index].output[0]))
        producer = self._owner.get(self._graph.producer.get(source.name, -1))
        if producer is not None and self._vanishing_quantize(producer) == index:
            return []
        readers = self._feeds_layers(index)
        if readers:
            sources = [self._quantized_source(tensor) for tensor in readers[0].reads]
            name = _REFORMAT.format(sources.index(result.name), self._name(readers[0]))
            return [self._reformat(name, source, result)]
        return [self._alone(index, source, result)]

    def _emit_dequantize(self, draft: _Draft) -> list[Layer]:
        index = draft.nodes[0]
        node = self._nodes[index]
        readers = self._graph.consumers.get(node.output[0], [])
        loose = [reader for reader in readers if reader not in self._owner or not self._absorbs(self._owner[reader])]
        if readers and not loose and node.output[0] not in self._graph.outputs:
            return []
        return [self._alone(index, self._border(str(node.input[0])), self._border(str(node.output[0])))]

    def _alone(self, index: int, source: Border, result: Border) -> Layer:
        node = self._nodes[index]
        return Layer(
            str(node.name), "Scale", str(node.op_type), source.dtype, (str(node.name),), (source,), (result,), 0
        )

    def _reformat(self, name: str, source: Border, result: Border) -> Layer:
        return Layer(name, "Reformat", "Reformat", source.dtype, (), (source,), (result,), 0)

    def _border(self, tensor: str) -> Border:
        info = self._graph.info(tensor)
        return Border(tensor, self._dtypes.get(tensor, info.dtype), info.shape or ())

    def _name(self, draft: _Draft) -> str:
        names = [str(self._nodes[index].name) for index in draft.nodes]
        if self._op(draft) in ("Conv", "ConvTranspose"):
            names = self._weight_names(draft) + names
        return " + ".join(names)

    def _weight_names(self, draft: _Draft) -> list[str]:
        """The weight and its Q, which TensorRT puts before a convolution that it quantizes itself."""
        dequantize = self._graph.producer.get(self._nodes[draft.nodes[0]].input[1], -1)
        if dequantize < 0:
            return []
        quantize = self._graph.producer.get(self._nodes[dequantize].input[0], -1)
        if quantize < 0:
            return []
        node = self._nodes[quantize]
        return [str(node.input[0]), f"{node.name}_quantize_scale_node"]

    def _hide(self, layer: Layer) -> list[Layer]:
        if not set(layer.nodes) & set(self._hidden):
            return [layer]
        name = f"{{ForeignNode[{layer.nodes[0]}...{layer.nodes[-1]}]}}"
        outside = "fp16" if layer.precision in ("int8", "fp8") else layer.precision
        borders = [tuple(replace(b, dtype=outside) for b in side) for side in (layer.inputs, layer.outputs)]
        return [replace(layer, name=name, kind="Myelin", inputs=borders[0], outputs=borders[1])]
