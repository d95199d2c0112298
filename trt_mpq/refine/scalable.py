"""Tensors whose channels can be scaled without changing what the network computes in FP32.

Channel j of a tensor that nothing but linear layers read is divided by s_j, and the rows j of their weights are
multiplied by it. The division is folded into constants before the tensor (see `rescaling`), never into a new operator;
tensors for which that is impossible are left alone, such as those of post-LN transformers whose residual branch reads
them too. What the s_j are is for SmoothQuant (`smooth`) and AWQ (`awq`) to say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.graph.edit import constant_array
from trt_mpq.graph.operators import VIEWS
from trt_mpq.groups.anchors import Anchor, anchor_of
from trt_mpq.groups.shapes import shape_of
from trt_mpq.numerics import FloatArray
from trt_mpq.refine.rescaling import Rescaling, division, owned, rescaled

_LARGEST_STEP = 1e4
"""Bound on one channel's factor: a nearly dead channel must not be blown up without limit."""


@dataclass(frozen=True)
class Scalable:
    """A tensor [..., channels] that only `readers`, all linear layers, read, and whose division constants can take."""

    value: ir.Value
    readers: tuple[Anchor, ...]

    @property
    def name(self) -> str:
        """The tensor."""
        return str(self.value.name)

    @property
    def channels(self) -> int:
        """Elements along its last axis, which the readers sum over."""
        return self.readers[0].channels[0]

    @property
    def weights(self) -> tuple[FloatArray, ...]:
        """The weights of the readers, each as [outputs, channels]."""
        return tuple(_outputs_first(constant_array(reader.weight), reader) for reader in self.readers)

    def divided(self, factor: FloatArray) -> tuple[Rescaling, ...]:
        """What divides channel j by ``factor[j]`` and multiplies the weights' rows j by it."""
        before = division(self.value, _along_last(factor, self.value))
        assert before is not None
        return (*before, *(Rescaling(str(r.node.name), 1, _as_rows(factor, r)) for r in self.readers))


@dataclass(frozen=True)
class Scaled:
    """A graph that computes the same as before in FP32, up to rounding.

    Attributes:
        graph: The graph.
        tensors: Those whose channels were scaled.
        left: Tensors that linear layers read and that were not, each with the reason.
    """

    graph: ir.Model
    tensors: tuple[str, ...]
    left: Mapping[str, str]


def scalable_tensors(graph: ir.Graph) -> tuple[tuple[Scalable, ...], dict[str, str]]:
    """All tensors of a graph with static shapes that can be scaled, in the order of their first readers.

    Returns:
        The tensors, and of others that linear layers read why they cannot.
    """
    readers: dict[ir.Value, list[Anchor]] = defaultdict(list)
    for node in graph:
        anchor = anchor_of(node)
        if anchor is not None and _is_linear(anchor):
            readers[_source(anchor.data)].append(anchor)
    candidates = [Scalable(value, tuple(anchors)) for value, anchors in readers.items()]
    left = {candidate.name: why for candidate in candidates if (why := _obstacle(candidate))}
    return tuple(candidate for candidate in candidates if candidate.name not in left), left


def scaled(graph: ir.Model, factors: Sequence[tuple[Scalable, FloatArray]], left: Mapping[str, str]) -> Scaled:
    """A copy of `graph` with channel j of every tensor divided by element j of its factor."""
    rescalings = (rescaling for tensor, factor in factors for rescaling in tensor.divided(factor))
    return Scaled(rescaled(graph, rescalings), tuple(tensor.name for tensor, _ in factors), left)


def bounded(factor: NDArray[np.floating[Any]]) -> FloatArray:
    """`factor` as float32 within what a channel may be scaled by."""
    return np.asarray(np.clip(factor, 1 / _LARGEST_STEP, _LARGEST_STEP), np.float32)


def _is_linear(anchor: Anchor) -> bool:
    """Whether the anchor multiplies the last axis of its data by a matrix that is its own."""
    turned = bool(anchor.node.attributes.get_int("transA", 0)) or anchor.weight_index == 0
    return not anchor.kernel and anchor.weight_axis is not None and not turned and owned(anchor.weight)


def _outputs_first(content: FloatArray, reader: Anchor) -> FloatArray:
    return content if reader.weight_axis == 0 else content.T


def _as_rows(factor: FloatArray, reader: Anchor) -> FloatArray:
    return factor.reshape((-1, 1) if reader.weight_axis == 1 else (1, -1))


def _along_last(factor: FloatArray, value: ir.Value) -> FloatArray:
    return factor.reshape([1] * (len(shape_of(value)) - 1) + [-1])


def _source(data: ir.Value) -> ir.Value:
    """The tensor that `data` is a view of with the same channels: other rows, such as tokens of all samples in one."""
    node = data.producer()
    while node is not None and _keeps_channels(node):
        data = node.inputs[0]  # type: ignore[assignment]
        node = data.producer()
    return data


def _keeps_channels(node: ir.Node) -> bool:
    """Whether a node is a view whose last axis is that of its input; the order of elements is, so channels are."""
    source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
    return (
        node.op_type in VIEWS
        and source is not None
        and bool(shape_of(source))
        and shape_of(source)[-1:] == shape_of(result)[-1:]
    )


def _obstacle(candidate: Scalable) -> str:
    """Why the tensor cannot be scaled; empty if it can."""
    value, nodes = candidate.value, {reader.node for reader in candidate.readers}
    if (other := next(_others(value, nodes), None)) is not None:
        return f"{other} reads it too"
    one = np.ones(candidate.channels, np.float32)
    if division(value, _along_last(one, value)) is None:
        producer = value.producer()
        return f"no constants before its {producer.op_type} can take it" if producer else "it is an input"
    return ""


def _others(value: ir.Value, nodes: set[ir.Node]) -> Iterator[str]:
    """What reads the tensor, directly or through views, and is none of `nodes` with it as their data."""
    if value.is_graph_output():
        yield "who runs the network"
    for use in value.uses():
        if use.idx == 0 and _keeps_channels(use.node):
            yield from _others(use.node.outputs[0], nodes)
        elif use.idx != 0 or use.node not in nodes:
            yield use.node.op_type
