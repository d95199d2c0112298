"""SmoothQuant: move outliers of activations, which have one scale per tensor, into weights, which have many.

Channel j of what linear layers read is divided by s_j, and the rows j of their weights are multiplied by it (Xiao et
al. 2022, "SmoothQuant", arXiv 2211.10438, equation 4); `scalable` says where that is possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks_by_length
from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import insert_node, reduced
from trt_mpq.groups.shapes import bind_shapes
from trt_mpq.numerics import FloatArray, channel_amax
from trt_mpq.refine.scalable import Scalable, Scaled, bounded, scalable_tensors, scaled
from trt_mpq.runtime.base import Runtime
from trt_mpq.types import Progress

_MAXIMA = "/channel_maxima"


def smooth(
    graph: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    samples: Samples,
    runtime: Runtime,
    alpha: float,
    batch: int,
    progress: Progress | None = None,
) -> Scaled:
    """Smooth every tensor that can be scaled.

    Args:
        graph: Prepared FP32 graph.
        shapes: Tensor name to shape for one sample, see `groups.shapes.bind_shapes`.
        samples: Calibration data.
        runtime: Where the graph runs.
        alpha: How much of the difficulty moves from activations to weights: 0 none, 1 all.
        batch: Samples per run, at most. It changes speed and memory, not the result.
        progress: Told how many samples are done.

    Raises:
        CalibrationError: A tensor to smooth is NaN or infinite.
    """
    found, left = scalable_tensors(bind_shapes(graph, shapes).graph)
    observed = _channel_magnitudes(graph, [tensor.name for tensor in found], samples, runtime, batch, progress)
    return scaled(
        graph,
        [(tensor, _smoothing_factors(observed[tensor.name], _weight_amax(tensor), alpha)) for tensor in found],
        left,
    )


def _weight_amax(tensor: Scalable) -> FloatArray:
    """Largest magnitude in all weights that meet channel j, shape ``(channels,)``."""
    return np.asarray(np.max([channel_amax(weight, 1) for weight in tensor.weights], axis=0))


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
    return bounded(activations**alpha / weights ** (1 - alpha))


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
