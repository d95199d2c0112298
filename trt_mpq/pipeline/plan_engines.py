"""Engines that are asked something: by a sensitivity metric, or by a bisection."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.emit import Network
from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.engine.plan_engines import PlanEngines
from trt_mpq.errors import TrtMpqError
from trt_mpq.pipeline.builds import OF_ENGINE, shapes_of, timing_cache_of
from trt_mpq.pipeline.sources import BATCH, SAMPLE_SHAPES
from trt_mpq.runtime.tensorrt.request import shape_ranges
from trt_mpq.sensitivity.output_difference import OutputDifference
from trt_mpq.settings import EngineOptions, Settings
from trt_mpq.types.engine import Platform


def engines_for_ranking(
    settings: Settings, network: Stage[Network], gpu: Stage[Platform | TrtMpqError]
) -> Stage[PlanEngines] | None:
    """Builds engines of a network for the metrics that run some; None if none does.

    Making it raises RuntimeFailure or MissingDependencyError if no engine can be built here.
    """
    if settings.compare_runner != "tensorrt" or OutputDifference.name not in settings.sensitivity:
        return None

    def make(job: Job) -> PlanEngines:
        here, options = job[gpu], job.settings.engine
        if not isinstance(here, Platform):
            raise here
        shapes = shape_ranges(job[network].model.inputs, job[SAMPLE_SHAPES], job[BATCH], options.shapes)
        return PlanEngines(here, options, shapes, timing_cache_of(options, job.folder))

    return Stage(
        "plan-engines", make, needs=(network, gpu, SAMPLE_SHAPES, BATCH), uses=("engine",),
        reads=("engine.typing", "engine.shapes", *OF_ENGINE),
    )  # fmt: skip


def engines_of(platform: Platform, described: CalibratedNetwork, options: EngineOptions, folder: Path) -> PlanEngines:
    """Builds engines of a network that was handed over, on this machine, the `platform`."""
    return PlanEngines(platform, options, shapes_of(described, options.shapes), timing_cache_of(options, folder))
