"""The calibration method of every tensor: the one with whose range its readers disturb the outputs least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.evaluate.losses import LOSSES
from trt_mpq.pipeline.model_states import State
from trt_mpq.pipeline.networks import network_of
from trt_mpq.pipeline.sources import BATCH, EVALUATION_ROWS, RUNTIME
from trt_mpq.pipeline.task import OUTPUTS
from trt_mpq.runtime.base import with_outputs
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.range_noise import method_by_tensor
from trt_mpq.types import Precision


def methods_by_tensor(state: State, precision: Precision, methods: tuple[str, ...]) -> Stage[Mapping[str, str]]:
    """The method of every tensor that is quantized in `precision`."""
    networks = [network_of(state, {precision: method}) for method in methods]

    def make(job: Job) -> Mapping[str, str]:
        first = job[networks[0]]
        counted = replace(first, graph=with_outputs(first.graph, job[OUTPUTS].names))
        inputs = SensitivityInputs(
            counted, (precision,), job[EVALUATION_ROWS], job.settings.sensitivity_samples, LOSSES["mse"], job[RUNTIME],
            job[BATCH], seed=0,
        )  # fmt: skip
        candidates = [job[network].ranges for network in networks]
        return method_by_tensor(inputs, precision, candidates, job.progress)

    return Stage(
        f"ranges-{precision}-by-tensor", make, json_kind(dict[str, str]),
        needs=(*networks, EVALUATION_ROWS, OUTPUTS, RUNTIME),
        reads=("sensitivity_samples",), uses=(BATCH,), constants=(methods,),
        title=f"Choosing the range of each tensor for {precision}",
    )  # fmt: skip
