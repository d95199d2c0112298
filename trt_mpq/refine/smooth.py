"""SmoothQuant: move outliers of activations, which have one scale per tensor, into weights, which have many.

Channel j of a tensor that nothing but linear layers read is divided by s_j, and the rows j of their weights are
multiplied by it, which leaves the network as it is in FP32 (Xiao et al. 2022, "SmoothQuant", arXiv 2211.10438,
equation 4). The division is folded into constants before the tensor (see `rescaling`), never into a new operator;
tensors for which that is impossible are left alone, such as those of post-LN transformers whose residual branch
reads them too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks_by_length
from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import constant_array, insert_node, reduced
from trt_mpq.graph.operators import VIEWS
from trt_mpq.groups.anchors import Anchor, anchor_of
from trt_mpq.groups.shapes import bind_shapes, shape_of
from trt_mpq.numerics import FloatArray, channel_amax
from trt_mpq.refine.rescaling import Rescaling, division, owned, rescaled
from trt_mpq.runtime.base import Runtime
from trt_mpq.types import Progress

_LARGEST_STEP = 1e4
"""Bound on one channel's factor: a nearly dead channel must not be blown up without limit."""
_MAXIMA = "/channel_maxima"


@dataclass(frozen=True)
class _Smoothable:
    """A tensor [..., channels] that only `readers`, all linear layers, read, and whose division constants can take."""

    value: ir.Value
    readers: tuple[Anchor, ...]

    @property
    def name(self) -> str:
        """The tensor."""
        return str(self.value.name)

    @property
    def weight_amax(self) -> FloatArray:
        """Largest magnitude in all weights that meet channel j, shape ``(channels,)``."""
        rows = [channel_amax(constant_array(reader.weight), _row_axis(reader)) for reader in self.readers]
        return np.asarray(np.max(rows, axis=0))

    def divided(self, factor: FloatArray) -> tuple[Rescaling, ...]:
        """What divides channel j by ``factor[j]`` and multiplies the weights' rows j by it."""
        before = division(self.value, _along_last(factor, self.value))
        assert before is not None
        return (*before, *(Rescaling(str(r.node.name), 1, _as_rows(factor, r)) for r in self.readers))


def smooth(
    graph: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    samples: Samples,
    runtime: Runtime,
    alpha: float,
    batch: int,
    progress: Progress | None = None,
) -> tuple[ir.Model, tuple[str, ...]]:
    """Smooth every tensor that can be.

    Args:
        graph: Prepared FP32 graph.
        shapes: Tensor name to shape for one sample, see `groups.shapes.bind_shapes`.
        samples: Calibration data.
        runtime: Where the graph runs.
        alpha: How much of the difficulty moves from activations to weights: 0 none, 1 all.
        batch: Samples per run, at most. It changes speed and memory, not the result.
        progress: Told how many samples are done.

    Returns:
        A new graph that computes the same in FP32 up to rounding, and the names of the smoothed tensors.

    Raises:
        CalibrationError: A tensor to smooth is NaN or infinite.
    """
    found = _smoothable_tensors(bind_shapes(graph, shapes).graph)
    observed = _channel_magnitudes(graph, [tensor.name for tensor in found], samples, runtime, batch, progress)
    rescalings = [
        rescaling
        for tensor in found
        for rescaling in tensor.divided(_smoothing_factors(observed[tensor.name], tensor.weight_amax, alpha))
    ]
    return rescaled(graph, rescalings), tuple(tensor.name for tensor in found)


def _smoothable_tensors(graph: ir.Graph) -> tuple[_Smoothable, ...]:
    """All tensors of a graph with static shapes that can be smoothed, in the order of their first readers."""
    readers: dict[ir.Value, list[Anchor]] = defaultdict(list)
    for node in graph:
        anchor = anchor_of(node)
        if anchor is not None and _is_linear(anchor):
            readers[_source(anchor.data)].append(anchor)
    candidates = (_Smoothable(value, tuple(anchors)) for value, anchors in readers.items())
    return tuple(candidate for candidate in candidates if _can_be_smoothed(candidate))


def _channel_magnitudes(
    graph: ir.Model,
    tensors: Sequence[str],
    samples: Samples,
    runtime: Runtime,
    batch: int,
    progress: Progress | None = None,
) -> dict[str, FloatArray]:
    """Largest magnitude in the data of every channel (last axis) of `tensors`, each of shape ``(channels,)``.

    They are reduced inside the graph, so memory does not grow with the data. Where the data tells lengths, padding
    does not count.

    Raises:
        CalibrationError: A magnitude is NaN or infinite.
    """
    if not tensors:
        return {}
    session = runtime.load(_with_channel_maxima(graph, tensors))
    largest: dict[str, FloatArray] = {name: np.zeros(1, np.float32) for name in tensors}
    for chunk in chunks_by_length(samples, batch):
        for name, magnitude in session.run(chunk.feeds).items():
            tensor = name.removesuffix(_MAXIMA)
            largest[tensor] = np.maximum(largest[tensor], magnitude.ravel())
        if progress is not None:
            progress(chunk.end, samples.count)
    for name, magnitude in largest.items():
        if not np.isfinite(magnitude).all():
            raise CalibrationError(f"tensor {name} is NaN or infinite in the calibration data: check its samples")
    return largest


def _smoothing_factors(activation_amax: FloatArray, weight_amax: FloatArray, alpha: float) -> FloatArray:
    """s_j = max|X_j|^alpha / max|W_j|^(1 - alpha), equation 4 of the paper; 1 for a dead channel."""
    alive = (activation_amax > 0) & (weight_amax > 0)
    activations, weights = np.where(alive, activation_amax, 1.0), np.where(alive, weight_amax, 1.0)
    return np.clip(activations**alpha / weights ** (1 - alpha), 1 / _LARGEST_STEP, _LARGEST_STEP).astype(np.float32)


def _is_linear(anchor: Anchor) -> bool:
    """Whether the anchor multiplies the last axis of its data by a matrix that is its own."""
    turned = anchor.node.attributes.get_int("transA", 0)
    return not anchor.kernel and anchor.weight_axis is not None and not turned and owned(anchor.weight)


def _row_axis(reader: Anchor) -> int:
    assert reader.weight_axis is not None
    return 1 - reader.weight_axis


def _as_rows(factor: FloatArray, reader: Anchor) -> FloatArray:
    return factor.reshape((-1, 1) if _row_axis(reader) == 0 else (1, -1))


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


def _can_be_smoothed(candidate: _Smoothable) -> bool:
    value, channels = candidate.value, candidate.readers[0].channels[0]
    nodes = {reader.node for reader in candidate.readers}
    return _is_read_by(value, nodes) and division(value, _along_last(np.ones(channels, np.float32), value)) is not None


def _is_read_by(value: ir.Value, nodes: set[ir.Node]) -> bool:
    """Whether nobody but `nodes` reads the tensor, directly as their data or through views."""
    return not value.is_graph_output() and all(
        (use.idx == 0 and use.node in nodes)
        or (use.idx == 0 and _keeps_channels(use.node) and _is_read_by(use.node.outputs[0], nodes))
        for use in value.uses()
    )


def _with_channel_maxima(graph: ir.Model, tensors: Sequence[str]) -> ir.Model:
    model = graph.clone()
    values = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs.clear()
    for name in tensors:
        value = values[name]
        magnitude = insert_node(model.graph, "Abs", [value], f"{name}/magnitude", after=value.producer())
        rows = insert_node(
            model.graph, "Flatten", [magnitude], f"{name}/rows", after=magnitude.producer(), attributes={"axis": -1}
        )
        rows.shape = None
        model.graph.outputs.append(reduced(model.graph, "ReduceMax", rows, [0], f"{name}{_MAXIMA}"))
    return model
