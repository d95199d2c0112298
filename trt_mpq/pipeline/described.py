"""The calibrated network as the device half of a run is given it."""

from __future__ import annotations

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.dataset.chunks import counted_batches
from trt_mpq.emit import Network
from trt_mpq.engine.handover import DESCRIBED, SAMPLES, CalibratedNetwork, write_leading_samples
from trt_mpq.pipeline.sources import BATCH, EVALUATION_ROWS, PREPARED, SAMPLE_SHAPES


def described_of(network: Stage[Network]) -> Stage[CalibratedNetwork]:
    """What an engine is built, timed and judged from without model and data, and the first samples beside it."""

    def make(job: Job) -> CalibratedNetwork:
        found, batch, settings = job[network], job[BATCH], job.settings
        write_leading_samples(job[EVALUATION_ROWS], job.path(SAMPLES))
        return CalibratedNetwork(
            found.model, job[PREPARED], found.grouping, found.ranges, batch,
            counted_batches(job[PREPARED].inputs, batch), job[SAMPLE_SHAPES], settings.precisions,
            settings.mix_formats, settings.seed,
        )  # fmt: skip

    return Stage(
        DESCRIBED.name, make, json_kind(CalibratedNetwork),
        needs=(network, PREPARED, EVALUATION_ROWS, BATCH, SAMPLE_SHAPES),
        reads=("precisions", "mix_formats", "seed"), files=DESCRIBED.files,
    )  # fmt: skip
