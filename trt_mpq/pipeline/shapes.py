"""Shapes of all tensors of the model for one sample: inferred, and observed where inference ends."""

from __future__ import annotations

import numpy as np

from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.calibrate.shapes import observed_shapes
from trt_mpq.dataset import Samples, samples_from_arrays
from trt_mpq.errors import DataError, RuntimeFailure
from trt_mpq.groups.shapes import bind_shapes, unknown_shapes
from trt_mpq.model import load_graph
from trt_mpq.pipeline.sources import CALIBRATION, PREPARED, RUNTIME, SAMPLE_SHAPES

_Shapes = dict[str, tuple[int, ...]]

_UNKNOWN = Stage(
    "unknown-shapes",
    lambda job: unknown_shapes(bind_shapes(load_graph(job.folder / job[PREPARED].path), job[SAMPLE_SHAPES])),
    json_kind(tuple[str, ...]), needs=(PREPARED, SAMPLE_SHAPES),
)  # fmt: skip
"""Tensors whose shape does not follow from those of the inputs by inference."""


def _data(job: Job) -> Samples:
    if job.settings.calib is not None:
        return job[CALIBRATION]
    inputs = job[PREPARED].inputs
    zeros = {spec.name: np.zeros(job[SAMPLE_SHAPES][spec.name], spec.dtype) for spec in inputs}
    return samples_from_arrays(zeros, inputs, source="zeros")


_DATA = Stage(
    "observed-data", _data, needs=(PREPARED, SAMPLE_SHAPES), uses=(CALIBRATION, "calib"),
    digest=lambda data: data.fingerprint,
)  # fmt: skip
"""What shapes are observed on: the calibration data, or a sample of zeros where there is none."""


def _observed(job: Job) -> _Shapes:
    graph, data = load_graph(job.folder / job[PREPARED].path), job[_DATA]
    try:
        return observed_shapes(graph, job[_UNKNOWN], data, job[RUNTIME])
    except RuntimeFailure as error:
        raise DataError(
            f"the shape of tensor {job[_UNKNOWN][0]} follows only from a run, which fails on {data.source}: pass "
            f"--calib with data that the model takes ({error})"
        ) from error


_OBSERVED = Stage(
    "observed-shapes", _observed, json_kind(_Shapes), needs=(PREPARED, _UNKNOWN, _DATA, RUNTIME),
)  # fmt: skip

TENSOR_SHAPES = Stage(
    "shapes", lambda job: job[SAMPLE_SHAPES] | (job[_OBSERVED] if job[_UNKNOWN] else {}),
    needs=(SAMPLE_SHAPES, _UNKNOWN), uses=(_OBSERVED,), digest=content_digest(_Shapes),
)  # fmt: skip
"""Shape of every input for one sample, and of every tensor where inference ends."""
