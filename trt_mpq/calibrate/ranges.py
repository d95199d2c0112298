"""Calibration: from data to the clipping magnitude (amax) of every quantized tensor.

Two streaming passes, so that memory does not grow with the data and the batch size does not change
the result: the first finds exact extremes of every float tensor (reduced inside the graph), the
second, for methods that need it, fills one fixed-width histogram of magnitudes per quantized tensor.
Both keep one number or one histogram per tensor, and the second bounds what one run returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.calibrate.histogram import METHODS, Histogram, Method
from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks_by_length
from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import constant_array, insert_node
from trt_mpq.numerics import LARGEST
from trt_mpq.runtime.base import Runtime, with_outputs
from trt_mpq.types import Grouping, LayerGroup, Precision, Progress, Ranges, TensorRange

_CHUNK_ELEMENTS = 64 << 20
"""Activation elements that the second pass may return from one run: 256 MiB."""
_QUANTIZED = tuple(precision for precision in Precision if precision.quantized)


def calibrate(
    graph: ir.Model,
    grouping: Grouping,
    samples: Samples,
    runtime: Runtime,
    *,
    methods: Sequence[str],
    formats: Sequence[Precision],
    batch: int,
    progress: Progress | None = None,
) -> tuple[Ranges, ...]:
    """Observe the data once and choose, by every method, an amax per quantized tensor and format.

    Tensors that must share a scale get the largest amax among them. Probabilities of attention, most of which are
    near zero, keep their whole range up to 1, whatever the method would clip.

    Args:
        graph: Prepared FP32 graph.
        grouping: Its groups.
        samples: Calibration data.
        runtime: Where the graph runs.
        methods: Names of calibration methods, see `histogram.METHODS`.
        formats: Quantized precisions that need an amax.
        batch: Samples per run, at most. It changes speed and memory, not the result.
        progress: Told how many samples of all passes are done.

    Raises:
        CalibrationError: No samples, or a tensor that is NaN or infinite.
    """
    counted = any(METHODS[method].needs_histogram for method in methods)
    total = (2 if counted else 1) * samples.count

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    extremes = _extremes(graph, samples, runtime, batch, report)
    quantized = dict.fromkeys(site.tensor for group in grouping.groups for site in group.inputs)
    histograms = {name: Histogram.empty(extremes[name].magnitude) for name in quantized}
    if counted:
        session = runtime.load(with_outputs(graph, list(histograms)))
        per_sample = sum(group.input_elements for group in grouping.groups)
        at_once = max(1, min(batch, _CHUNK_ELEMENTS // max(per_sample, 1)))
        for chunk in chunks_by_length(samples, at_once):
            values = chunk.run(session)
            for name, histogram in histograms.items():
                histogram.add(values[name])
            report(samples.count + chunk.end)

    def by(method: str) -> Ranges:
        amax = _amax(METHODS[method], grouping, histograms, formats)
        tensors = {name: replace(observed, amax=amax.get(name, {})) for name, observed in extremes.items()}
        return Ranges(dict.fromkeys(formats, method), samples.count, tensors)

    return tuple(map(by, methods))


def _amax(
    method: Method, grouping: Grouping, histograms: Mapping[str, Histogram], formats: Sequence[Precision]
) -> dict[str, dict[Precision, float]]:
    whole = {site.tensor for group in grouping.groups for site in group.inputs if site.internal}
    amax = {
        name: {p: 1.0 if name in whole else method.amax(histogram, p) for p in formats}
        for name, histogram in histograms.items()
    }
    return _share(amax, grouping.shared_scales)


def by_format(candidates: Sequence[Ranges], methods: Mapping[Precision, str]) -> Ranges:
    """The ranges in which every format has the amax that its own one of `methods` chose.

    Args:
        candidates: What `calibrate` returned.
        methods: Method of each format.
    """
    chosen = {p: next(ranges for ranges in candidates if ranges.methods[p] == own) for p, own in methods.items()}
    observed = candidates[0]
    tensors = {
        name: replace(tensor, amax={p: chosen[p].tensors[name].amax[p] for p in methods if p in tensor.amax})
        for name, tensor in observed.tensors.items()
    }
    return Ranges(methods, observed.samples, tensors)


def restrict_to_ranges(grouping: Grouping, ranges: Ranges, graph: ir.Graph) -> Grouping:
    """The grouping with what calibration forbids.

    A group that reads or writes a value, weight and bias included, beyond the range of the grouping's high precision
    runs as a whole in the refuge; one whose input is zero in all data has no scale for it and stays in high precision.
    """
    nodes = {node.name: node for node in graph}
    return replace(
        grouping,
        groups=tuple(_restrict(group, [nodes[n] for n in group.nodes], ranges, grouping) for group in grouping.groups),
    )


def _restrict(group: LayerGroup, nodes: list[ir.Node], ranges: Ranges, grouping: Grouping) -> LayerGroup:
    reasons: dict[Precision, str] = {}
    for site in group.inputs:
        if site.tensor in ranges.tensors and ranges.tensors[site.tensor].magnitude == 0:
            text = f"tensor {site.tensor} is zero in all calibration data, so it has no scale"
            reasons = dict.fromkeys(_QUANTIZED, text)
    constants = [name for weight in group.weights for name in (weight.name, weight.bias)]
    for value in (value for node in nodes for value in (*node.inputs, *node.outputs) if value is not None):
        magnitude = _magnitude(value, ranges, constants)
        for precision in (p for p in (grouping.top, grouping.refuge) if magnitude > LARGEST.get(p, inf)):
            range_ = f"{precision.name} range of {LARGEST[precision]:.5g}"
            text = f"tensor {value.name} reaches {magnitude:.4g}, beyond the {range_}"
            reasons.update(dict.fromkeys((precision, *_QUANTIZED), text))
    return replace(group, excluded={**group.excluded, **reasons})


def _magnitude(value: ir.Value, ranges: Ranges, constants: Sequence[str | None]) -> float:
    """Largest magnitude of a tensor, or of one of the `constants`; 0 for others, such as the bounds of a Clip."""
    if value.const_value is not None:
        return float(np.abs(constant_array(value)).max(initial=0.0)) if value.name in constants else 0.0
    observed = ranges.tensors.get(str(value.name))
    return 0.0 if observed is None else observed.magnitude


def _float_tensors(graph: ir.Graph) -> list[ir.Value]:
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return [value for value in values if value.dtype is ir.DataType.FLOAT and value.name]


def _extremes(
    graph: ir.Model, samples: Samples, runtime: Runtime, batch: int, report: Callable[[int], None]
) -> dict[str, TensorRange]:
    names = [str(value.name) for value in _float_tensors(graph.graph)]
    session = runtime.load(_with_reductions(graph, names))
    low = np.full(len(names), np.inf)
    high = np.full(len(names), -np.inf)
    for chunk in chunks_by_length(samples, batch):
        values = session.run(chunk.feeds)
        least, most, mean = (
            np.array([values[f"{name}/{kind}"] for name in names], dtype=np.float64) for kind in ("min", "max", "mean")
        )
        # A reduction to an extreme may skip NaN, a mean never does; but a mean may overflow where no value does.
        finite = np.isfinite(least) & np.isfinite(most) & ~np.isnan(mean)
        if not finite.all():
            raise _not_finite(names[int(np.argmin(finite))], chunk.batch.numbers)
        low, high = np.minimum(low, least), np.maximum(high, most)
        report(chunk.end)
    if not np.all(np.isfinite(high)):
        raise CalibrationError("the calibration set is empty: pass at least one sample")
    return {name: TensorRange(float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _not_finite(name: str, numbers: NDArray[np.intp]) -> CalibrationError:
    return CalibrationError(
        f"tensor {name} is NaN or infinite for calibration samples {numbers.min()} to {numbers.max()}: check these "
        "samples and that the model is a sound FP32 network"
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
