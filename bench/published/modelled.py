"""The model's times of published points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from bench.published.groupings import grouping_of
from bench.published.networks import NETWORKS
from bench.published.rows import DEMO_BERT, Point
from trt_mpq.latency.dataflow import Formats
from trt_mpq.latency.kernels import Kernel, Reformat
from trt_mpq.latency.roofline import TRAITS, LatencyModel, Traits
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Grouping, Precision, Target

CACHE = Path(__file__).resolve().parents[1] / "cache" / "published"
_ANY = target_from_name("a100")


@cache
def grouping(network: str) -> Grouping:
    """The groups of a network, as default settings divide it."""
    return grouping_of(network, CACHE)


def flops() -> dict[str, int]:
    """Operations of one sample of every network."""
    return {name: grouping(name).flops for name in NETWORKS}


def modelled_ms(
    point: Point, precision: Precision, traits: Traits = TRAITS, targets: Mapping[str, Target] | None = None
) -> float:
    """Modelled milliseconds of a point with all groups in one precision.

    Args:
        point: Network, batch and device.
        precision: What groups run in that may.
        traits: What all kernels have in common.
        targets: Devices to take instead of their files; what a point itself says of its GPU stays.
    """
    target = point.target if targets is None else _with_shares(point.target, targets[point.device])
    kernels, formats, conversions = _running(point.network, precision, DEMO_BERT in point.source)
    model = _model(point.network, point.batch).on(target, traits)
    return sum(model.kernel_ms(kernel, formats) for kernel in kernels) + sum(map(model.conversion_ms, conversions))


def _with_shares(target: Target, shares: Target) -> Target:
    return replace(
        target,
        launch_us=shares.launch_us,
        compute_efficiency=shares.compute_efficiency,
        eight_bit_efficiency=shares.eight_bit_efficiency,
        memory_efficiency=shares.memory_efficiency,
    )


@cache
def _model(network: str, batch: int) -> LatencyModel:
    """FP32 is TF32 from Ampere on, as TensorRT's own default is."""
    return LatencyModel(grouping(network), _ANY, batch, tf32=True)


@cache
def _running(
    network: str, precision: Precision, plugins: bool
) -> tuple[tuple[Kernel, ...], Formats, tuple[Reformat, ...]]:
    """The kernels and conversions of a uniform plan.

    The `plugins` of demoBERT keep residuals and normalizations in 8 bit too, where a plan keeps them in 16.
    """
    flow = _model(network, 1).flow
    formats = flow.formats(grouping(network).uniform(precision))
    kernels = tuple(kernel for kernel in flow.kernels if kernel.kind != "none")
    if not (plugins and precision.quantized):
        return kernels, formats, flow.reformats(formats)
    narrow = Formats(dict.fromkeys(formats.computed, precision), dict.fromkeys(formats.stored, precision))
    return kernels, narrow, ()
