"""The error of every group under the plan that is delivered, on the evaluation data."""

from __future__ import annotations

from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.emit import Network, Refinements
from trt_mpq.evaluate.layers import layer_errors
from trt_mpq.pipeline.sources import BATCH, EVALUATION_ROWS, RUNTIME
from trt_mpq.types import SearchResult


def layer_errors_of(
    network: Stage[Network], refinements: Stage[Refinements], result: Stage[SearchResult]
) -> Stage[dict[str, float | None]]:
    """Group to the signal-to-noise ratio of what it writes, in decibels."""

    def make(job: Job) -> dict[str, float | None]:
        own, plan = job[network], job[result].chosen.plan
        tested = own.emitter(job[refinements]).reference(plan)
        tensors = {group.id: next(iter(group.writes)) for group in own.grouping.groups if group.writes}
        return layer_errors(own.graph, tested, tensors, job[EVALUATION_ROWS], job[RUNTIME], job[BATCH])

    return Stage(
        "layer-errors", make, json_kind(dict[str, float | None]),
        needs=(network, refinements, result, EVALUATION_ROWS, BATCH, RUNTIME), title="Comparing layers with FP32",
    )  # fmt: skip
