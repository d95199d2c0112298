"""Stages that choose codes and scales of weights: those of a quantized file, clipped scales, GPTQ."""

from __future__ import annotations

from collections.abc import Callable

from trt_mpq.artifacts.stage import Job, Kind, Stage
from trt_mpq.emit import Network, RefinedWeights
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, RUNTIME
from trt_mpq.refine.files import save_weights, weights_from_file
from trt_mpq.refine.given_weights import given_weights
from trt_mpq.refine.gptq import round_weights
from trt_mpq.refine.weight_scales import clip_weights
from trt_mpq.types import Precision

WEIGHTS = Kind(".npz", save_weights, weights_from_file)


def clipped_weights(network: Stage[Network], precision: Precision) -> Stage[RefinedWeights]:
    """The weights of `precision` with the scales that lose least."""

    def make(job: Job) -> RefinedWeights:
        return clip_weights(job[network], precision, job[CALIBRATION], job[RUNTIME], job[BATCH], job.progress)

    return _stage(f"weights-{precision}-clipped", make, network, f"Clipping weights for {precision}")


def gptq_weights(
    network: Stage[Network], precision: Precision, clipped: Stage[RefinedWeights] | None
) -> Stage[RefinedWeights]:
    """The weights of `precision` rounded by GPTQ, with the scales of those that were `clipped`."""

    def make(job: Job) -> RefinedWeights:
        given = {} if clipped is None else job[clipped]
        return round_weights(job[network], precision, given, job[CALIBRATION], job[RUNTIME], job[BATCH], job.progress)

    name = f"weights-{precision}-gptq{'' if clipped is None else '-clipped'}"
    return _stage(name, make, network, f"Rounding weights for {precision} by GPTQ", clipped)


def weights_of_file(network: Stage[Network], precision: Precision) -> Stage[RefinedWeights]:
    """The weights of `precision` as the quantized file has them."""
    return Stage(
        f"weights-{precision}-given", lambda job: given_weights(job[network], precision), WEIGHTS, needs=(network,)
    )


def _stage(
    name: str,
    make: Callable[[Job], RefinedWeights],
    network: Stage[Network],
    title: str,
    given: Stage[RefinedWeights] | None = None,
) -> Stage[RefinedWeights]:
    needs = (network, CALIBRATION, RUNTIME)
    return Stage(name, make, WEIGHTS, needs=(*needs, given) if given else needs, uses=(BATCH,), title=title)
