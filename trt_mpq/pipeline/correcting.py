"""How stages correct biases: on the calibration data, which workers run."""

from __future__ import annotations

from trt_mpq.artifacts.stage import Job
from trt_mpq.emit import BiasCorrections, Network, Refinements
from trt_mpq.pipeline.sharing import SPREAD
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, RUNTIME
from trt_mpq.refine.bias_correction import correct_biases
from trt_mpq.types import PrecisionPlan, Progress

CORRECTING_NEEDS, CORRECTING_USES = (CALIBRATION, RUNTIME), (BATCH, SPREAD)
"""Stages that `biases_corrected` asks for."""


def biases_corrected(
    job: Job, network: Network, plan: PrecisionPlan, refinements: Refinements, progress: Progress | None = None
) -> BiasCorrections:
    """Corrections of `network` under `plan`; the job has declared the above."""
    return correct_biases(
        network, plan, refinements, job[CALIBRATION], job[RUNTIME], batch=job[BATCH], progress=progress,
        spread=job[SPREAD],
    )  # fmt: skip
