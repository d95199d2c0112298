"""Calibration: from data to the clipping magnitude (amax) of every quantized tensor.

Two streaming passes, so that memory does not grow with the data and the batch size does not change
the result: the first finds exact extremes of every float tensor (reduced inside the graph), the
second, for methods that need it, fills one fixed-width histogram of magnitudes per quantized tensor.
Both keep one number or one histogram per tensor, and the second bounds what one run returns.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.calibrate.histogram import METHODS, Histogram, Method
from trt_mpq.calibrate.reductions import add_reduction
from trt_mpq.calibrate.underflow import singular_operands
from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import Chunk, chunks_by_length
from trt_mpq.dataset.spread import Spread, here, outputs_as_given, with_results
from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import add_constant, insert_node
from trt_mpq.runtime.base import Runtime, Session, with_outputs
from trt_mpq.types import Grouping, Precision, Progress, Ranges, TensorRange

_CHUNK_ELEMENTS = 64 << 20
"""Activation elements that the second pass may return from the runs that are made side by side: 256 MiB."""


def calibrate(
    graph: ir.Model,
    grouping: Grouping,
    samples: Samples,
    runtime: Runtime,
    *,
    methods: Sequence[str],
    formats: Sequence[Precision],
    batch: int,
    given: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    spread: Spread | None = None,
) -> tuple[Ranges, ...]:
    """Observe the data once and choose, by every method, an amax per quantized tensor and format.

    Probabilities of attention, most of which are near zero, keep their whole range up to 1, whatever the method would
    clip. Tensors that share a scale each have their own amax still, see `share_scales`.

    Args:
        graph: Prepared FP32 graph.
        grouping: Its groups.
        samples: Calibration data.
        runtime: Where the graph runs.
        methods: Names of calibration methods, see `histogram.METHODS`.
        formats: Quantized precisions that need an amax.
        batch: Samples per run, at most. It changes speed and memory, not the result.
        given: Tensors whose amax is known, whatever is observed, see `spread_given`.
        progress: Told how many samples of all passes are done.
        spread: Has the graph run by others, to the same result; None for here.

    Raises:
        CalibrationError: No samples, or a tensor of a group that is NaN or infinite.
    """
    counted = any(METHODS[method].needs_histogram for method in methods)
    total = (2 if counted else 1) * samples.count

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    spread = spread or here(runtime)
    extremes = _extremes(graph, _touched(grouping, graph.graph), samples, spread, batch, report)
    quantized = dict.fromkeys(site.tensor for group in grouping.groups for site in group.inputs)
    histograms = {name: Histogram.empty(extremes[name].magnitude) for name in quantized}
    if counted:
        per_sample = sum(group.input_elements for group in grouping.groups)
        at_once = max(1, min(batch, _CHUNK_ELEMENTS // (runtime.ways * max(per_sample, 1))))
        counting = partial(_histograms, {name: extremes[name].magnitude for name in histograms})
        run = partial(spread, with_outputs(graph, list(histograms)), (), counting)
        with with_results(chunks_by_length(samples, at_once, tapering=True), run) as results:
            for chunk, found in results:
                for name, histogram in found.items():
                    histograms[name].counts += histogram.counts
                report(samples.count + chunk.end)

    bins = {name: histogram.coarse() for name, histogram in histograms.items()}

    def by(method: str) -> Ranges:
        known = {name: dict.fromkeys(formats, amax) for name, amax in (given or {}).items() if name in histograms}
        amax = {**_amax(METHODS[method], grouping, histograms, formats), **known}
        tensors = {
            name: replace(observed, amax=amax.get(name, {}), bins=bins.get(name, ()))
            for name, observed in extremes.items()
        }
        return Ranges(dict.fromkeys(formats, method), samples.count, tensors)

    return tuple(map(by, methods))


def _histograms(magnitudes: Mapping[str, float], session: Session, chunk: Chunk) -> dict[str, Histogram]:
    """Those of the tensors of one chunk."""
    values, found = chunk.run(session), {name: Histogram.empty(magnitude) for name, magnitude in magnitudes.items()}
    for name, histogram in found.items():
        histogram.add(values[name])
    return found


def _amax(
    method: Method, grouping: Grouping, histograms: Mapping[str, Histogram], formats: Sequence[Precision]
) -> dict[str, dict[Precision, float]]:
    whole = {site.tensor for group in grouping.groups for site in group.inputs if site.internal}
    return {
        name: {p: 1.0 if name in whole else _chosen(method, histogram, p) for p in formats}
        for name, histogram in histograms.items()
    }


def _chosen(method: Method, histogram: Histogram, precision: Precision) -> float:
    """What `method` chooses; where every block gets a scale as it comes, the largest magnitude of all is to fit."""
    return method.amax(histogram, precision) if precision.spec.between_kernels else histogram.magnitude


def spread_given(given: Mapping[str, float], grouping: Grouping) -> dict[str, float]:
    """`given` magnitudes of some tensors, also for those that only move the same values, such as behind a MaxPool."""
    spread = dict(given)
    for names in grouping.shared_scales:
        known = [given[name] for name in names if name in given]
        spread.update((name, max(known)) for name in names if known and name not in given)
    return spread


def by_format(
    candidates: Sequence[Ranges],
    methods: Mapping[Precision, str],
    by_tensor: Mapping[Precision, Mapping[str, str]] | None = None,
) -> Ranges:
    """The ranges in which every format has the amax that its own one of `methods` chose.

    Args:
        candidates: What `calibrate` returned.
        methods: Method of each format.
        by_tensor: Formats that have a method for every tensor, to these; `methods` then says what that is called.
    """
    apart, observed = by_tensor or {}, candidates[0]
    known = {(p, method): ranges for ranges in candidates for p, method in ranges.methods.items()}

    def method(name: str, precision: Precision) -> str:
        if precision not in apart:
            return methods[precision]
        return apart[precision].get(name, observed.methods[precision])

    def chosen(name: str, tensor: TensorRange) -> TensorRange:
        own = {p: method(name, p) for p in methods if p in tensor.amax}
        amax = {p: known[p, used].tensors[name].amax[p] for p, used in own.items()}
        return replace(tensor, amax=amax, methods={p: own[p] for p in apart if p in own})

    tensors = {name: chosen(name, tensor) for name, tensor in observed.tensors.items()}
    return Ranges(methods, observed.samples, tensors)


def _float_tensors(graph: ir.Graph) -> list[ir.Value]:
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return [value for value in values if value.dtype is ir.DataType.FLOAT and value.name]


def _touched(grouping: Grouping, graph: ir.Graph) -> frozenset[str]:
    """Tensors that groups quantize or write, and all inside groups with weights; attention may mask with infinities."""
    quantized = {site.tensor for group in grouping.groups for site in group.inputs}
    written = {name for group in grouping.groups for name in group.writes}
    nodes = {name for group in grouping.groups if group.weights for name in group.nodes}
    return frozenset(quantized | written | {str(v.name) for node in graph if node.name in nodes for v in node.outputs})


def _extremes(
    graph: ir.Model,
    touched: Container[str],
    samples: Samples,
    spread: Spread,
    batch: int,
    report: Callable[[int], None],
) -> dict[str, TensorRange]:
    """Extremes of every float tensor; those outside groups may be NaN or infinite, which counts as without bounds.

    What computes them reads or writes no code, stays in FP32, and its result may well be discarded by a Where.
    """
    names = [str(value.name) for value in _float_tensors(graph.graph)]
    smallest = {str(value.name): inf for value in singular_operands(graph.graph)}
    run = partial(spread, _with_reductions(graph, names, smallest), (), outputs_as_given)
    free = np.array([name not in touched for name in names])
    low = np.full(len(names), np.inf)
    high = np.full(len(names), -np.inf)
    with with_results(chunks_by_length(samples, batch, tapering=True), run) as results:
        for chunk, values in results:
            least, most, mean = (
                np.array([values[f"{name}/{kind}"] for name in names], dtype=np.float64)
                for kind in ("min", "max", "mean")
            )
            # A reduction to an extreme may skip NaN, a mean never does; but a mean may overflow where no value does.
            finite = np.isfinite(least) & np.isfinite(most) & ~np.isnan(mean)
            if not (finite | free).all():
                raise _not_finite(names[int(np.argmin(finite | free))], chunk.batch.numbers)
            low, high = np.minimum(low, np.where(finite, least, -inf)), np.maximum(high, np.where(finite, most, inf))
            smallest = {name: min(known, float(values[f"{name}/smallest"])) for name, known in smallest.items()}
            report(chunk.end)
    if samples.count == 0:
        raise CalibrationError("the calibration set is empty: pass at least one sample")
    seen = {name: least for name, least in smallest.items() if least < inf}
    return {
        name: TensorRange(float(a), float(b), smallest=seen.get(name))
        for name, a, b in zip(names, low, high, strict=True)
    }


def _not_finite(name: str, numbers: NDArray[np.intp]) -> CalibrationError:
    return CalibrationError(
        f"tensor {name} is NaN or infinite for calibration samples {numbers.min()} to {numbers.max()}: check these "
        "samples and that the model is a sound FP32 network"
    )


def _with_reductions(graph: ir.Model, names: Iterable[str], not_zero: Iterable[str]) -> ir.Model:
    """A copy whose outputs are minimum, maximum and mean of `names`, and of `not_zero` the least magnitude but 0."""
    model = graph.clone()
    values = {value.name: value for value in _float_tensors(model.graph)}
    model.graph.outputs.clear()
    for name in names:
        for op_type, suffix in (("ReduceMin", "min"), ("ReduceMax", "max"), ("ReduceMean", "mean")):
            add_reduction(model.graph, op_type, values[name], f"{name}/{suffix}")
    for name in not_zero:
        add_reduction(model.graph, "ReduceMin", _nonzero_magnitudes(model.graph, values[name]), f"{name}/smallest")
    return model


def _nonzero_magnitudes(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """The magnitudes of a tensor, infinite where they are 0."""
    constants = [add_constant(graph, f"{value.name}/{number}", np.float32(number)) for number in (0, inf)]
    zero = insert_node(
        graph, "Equal", [value, constants[0]], f"{value.name}/zero", after=value.producer(), dtype=ir.DataType.BOOL
    )
    magnitude = insert_node(graph, "Abs", [value], f"{value.name}/magnitude", after=zero.producer())
    return insert_node(
        graph, "Where", [zero, constants[1], magnitude], f"{value.name}/nonzero", after=magnitude.producer(),
        dtype=value.dtype,
    )  # fmt: skip


def share_scales(ranges: Ranges, grouping: Grouping) -> Ranges:
    """The ranges in which tensors that share a scale have the largest amax among them."""
    amax = {name: dict(tensor.amax) for name, tensor in ranges.tensors.items()}
    for names in grouping.shared_scales:
        members = [amax[name] for name in names if name in amax]
        for precision in {p for own in members for p in own}:
            quantized = [own for own in members if precision in own]
            widest = max(own[precision] for own in quantized)
            for own in quantized:
                own[precision] = widest
    tensors = {name: replace(tensor, amax=amax[name]) for name, tensor in ranges.tensors.items()}
    return Ranges(ranges.methods, ranges.samples, tensors)
