"""Calibration: from data to the clipping magnitude (amax) of every quantized tensor.

Two streaming passes, so that memory does not grow with the data and the batch size does not change
the result: the first finds exact extremes of every float tensor (reduced inside the graph), the
second, for methods that need it, fills one fixed-width histogram of magnitudes per quantized tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from trt_mpq.dataset import Samples, pad_batch
from trt_mpq.errors import CalibrationError
from trt_mpq.graph_edit import insert_node
from trt_mpq.histogram import METHODS, Histogram
from trt_mpq.numerics import FLOAT16_MAX
from trt_mpq.runtime.base import Runtime, with_outputs
from trt_mpq.types import Grouping, LayerGroup, Precision, Ranges, TensorRange

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CalibrationInputs:
    """What calibration reads.

    Attributes:
        graph: Prepared FP32 graph.
        grouping: Its groups.
        samples: Calibration data.
        runtime: Where the graph runs.
        method: A key of `histogram.METHODS`.
        formats: Quantized precisions that need an amax.
        batch: Samples per run.
    """

    graph: ir.Model
    grouping: Grouping
    samples: Samples
    runtime: Runtime
    method: str
    formats: tuple[Precision, ...]
    batch: int


def calibrate(inputs: CalibrationInputs, progress: Progress | None = None) -> Ranges:
    """Observe the data and choose an amax per quantized tensor and format.

    Raises:
        CalibrationError: Unknown method, no samples, or a tensor that is NaN or infinite.
    """
    if inputs.method not in METHODS:
        raise CalibrationError(f"unknown calibration method {inputs.method!r}: choose one of {', '.join(METHODS)}")
    choose = METHODS[inputs.method]
    quantized = quantized_tensors(inputs.grouping)
    passes = 2 if choose.needs_histogram else 1
    total = passes * inputs.samples.count

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    extremes = _extremes(inputs, report)
    histograms = {name: Histogram.empty(extremes[name].magnitude) for name in quantized}
    if choose.needs_histogram:
        _fill(inputs, histograms, lambda done: report(inputs.samples.count + done))
    amax = {name: {p: choose.amax(histograms[name], p) for p in inputs.formats} for name in quantized}
    shared = _share(amax, inputs.grouping.shared_scales)
    tensors = {name: replace(observed, amax=shared.get(name, {})) for name, observed in extremes.items()}
    return Ranges(inputs.method, inputs.samples.count, tensors)


def quantized_tensors(grouping: Grouping) -> tuple[str, ...]:
    """Names of all activations that some group would quantize, in network order."""
    return tuple(dict.fromkeys(site.tensor for group in grouping.groups for site in group.inputs))


def restrict_to_ranges(grouping: Grouping, ranges: Ranges) -> Grouping:
    """The grouping with what calibration forbids: FP16 overflow keeps a group in FP32, an all-zero input in FP16."""
    return replace(grouping, groups=tuple(_restrict(group, ranges) for group in grouping.groups))


def _restrict(group: LayerGroup, ranges: Ranges) -> LayerGroup:
    names = dict.fromkeys((*(site.tensor for site in group.inputs), group.anchor_output, group.output))
    reasons: dict[Precision, str] = {}
    for name in names:
        observed = ranges.tensors.get(name)
        if observed is not None and observed.magnitude > FLOAT16_MAX:
            text = f"tensor {name} reaches {observed.magnitude:.3g}, beyond the FP16 range of {FLOAT16_MAX:.0f}"
            reasons = dict.fromkeys((Precision.FP16, Precision.FP8, Precision.INT8, Precision.INT4), text)
            break
    else:
        dead = [
            s.tensor for s in group.inputs if s.tensor in ranges.tensors and ranges.tensors[s.tensor].magnitude == 0
        ]
        if dead:
            text = f"tensor {dead[0]} is zero in all calibration data, so it has no scale"
            reasons = dict.fromkeys((Precision.FP8, Precision.INT8, Precision.INT4), text)
    return replace(group, excluded={**group.excluded, **reasons})


def _float_tensors(graph: ir.Graph) -> list[ir.Value]:
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return [value for value in values if value.dtype is ir.DataType.FLOAT and value.name]


def _extremes(inputs: CalibrationInputs, report: Callable[[int], None]) -> dict[str, TensorRange]:
    names = [str(value.name) for value in _float_tensors(inputs.graph.graph)]
    session = inputs.runtime.load(_with_reductions(inputs.graph, names))
    low = np.full(len(names), np.inf)
    high = np.full(len(names), -np.inf)
    for batch in inputs.samples.batches(inputs.batch):
        values = session.run(pad_batch(batch, inputs.batch).feeds)
        totals = np.array([values[f"{name}/mean"] for name in names], dtype=np.float64)
        _refuse_non_finite(names, totals, batch.start, batch.start + batch.size)
        low = np.minimum(low, [values[f"{name}/min"] for name in names])
        high = np.maximum(high, [values[f"{name}/max"] for name in names])
        report(batch.start + batch.size)
    if not np.all(np.isfinite(high)):
        raise CalibrationError("the calibration set is empty: pass at least one sample")
    return {name: TensorRange(float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _refuse_non_finite(names: list[str], totals: np.ndarray, first: int, end: int) -> None:
    bad = [name for name, total in zip(names, totals, strict=True) if not np.isfinite(total)]
    if bad:
        raise CalibrationError(
            f"tensor {bad[0]} is NaN or infinite for calibration samples {first} to {end - 1}: check these samples and "
            "that the model is a sound FP32 network"
        )


def _with_reductions(graph: ir.Model, names: Iterable[str]) -> ir.Model:
    model = graph.clone()
    values = {value.name: value for value in _float_tensors(model.graph)}
    model.graph.outputs.clear()
    for name in names:
        for op_type, suffix in (("ReduceMin", "min"), ("ReduceMax", "max"), ("ReduceMean", "mean")):
            reduced = insert_node(
                model.graph, op_type, [values[name]], f"{name}/{suffix}",
                after=values[name].producer(), attributes={"keepdims": 0},
            )  # fmt: skip
            reduced.shape = ir.Shape(())
            model.graph.outputs.append(reduced)
    return model


def _fill(inputs: CalibrationInputs, histograms: Mapping[str, Histogram], report: Callable[[int], None]) -> None:
    graph_inputs = {str(value.name) for value in inputs.graph.graph.inputs}
    computed = [name for name in histograms if name not in graph_inputs]
    session = inputs.runtime.load(with_outputs(inputs.graph, computed))
    for batch in inputs.samples.batches(inputs.batch):
        feeds = pad_batch(batch, inputs.batch).feeds
        values = {**feeds, **session.run(feeds)}
        for name, histogram in histograms.items():
            histogram.add(values[name][: batch.size] if _batched(values[name], inputs.batch) else values[name])
        report(batch.start + batch.size)


def _batched(value: np.ndarray, batch: int) -> bool:
    return value.ndim > 0 and value.shape[0] == batch


def _share(
    amax: Mapping[str, Mapping[Precision, float]], shared: Iterable[tuple[str, ...]]
) -> dict[str, dict[Precision, float]]:
    result = {name: dict(values) for name, values in amax.items()}
    for names in shared:
        members = [name for name in names if name in result]
        for precision in {p for name in members for p in result[name]}:
            widest = max(result[name][precision] for name in members)
            for name in members:
                result[name][precision] = widest
    return result
