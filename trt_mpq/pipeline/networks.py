"""A state of the model, grouped and calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from trt_mpq.artifacts.files import key_of, to_stored_json
from trt_mpq.artifacts.stage import Job, Stage, content_digest, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.calibrate.own_scales import with_own_scales
from trt_mpq.calibrate.ranges import by_format, calibrate, share_scales, spread_given
from trt_mpq.calibrate.restrictions import restrict_to_given, restrict_to_ranges
from trt_mpq.emit import Network
from trt_mpq.errors import ModelError
from trt_mpq.groups import groups_from_model
from trt_mpq.pipeline.model_states import State
from trt_mpq.pipeline.shapes import TENSOR_SHAPES
from trt_mpq.pipeline.sharing import SPREAD
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, GIVEN_TABLE, PREPARED, REFUGE, RUNTIME, TARGET
from trt_mpq.types import Grouping, Precision, Ranges


def groups_of(state: State) -> Stage[Grouping]:
    """The groups of the model; what a device table was measured for is not excluded beforehand.

    What TensorRT for RTX was seen to compile counts unless TensorRT itself is named as what builds.
    """
    graph = state.graph

    def make(job: Job) -> Grouping:
        table, formats, exclusions = job[GIVEN_TABLE], job.settings.formats, job.settings.exclusions
        capability = None if job.settings.engine.flavour == "tensorrt" else job[TARGET].sm
        grouped = partial(groups_from_model, job[graph], job[TENSOR_SHAPES], formats=formats, capability=capability)
        measured = table is not None and table.covers_all(grouped("none"), formats)
        return grouped("none" if measured else exclusions)

    return Stage(
        f"groups{state.suffix}", make, json_kind(Grouping), needs=(graph, TENSOR_SHAPES, TARGET, GIVEN_TABLE),
        reads=("exclusions", "formats", "engine.flavour"),
    )  # fmt: skip


def require_groups(store: Store, state: State) -> None:
    """Raise ModelError, with a reason or two, if the model has no group: there is nothing to search for."""
    grouping = store[groups_of(state)]
    if not grouping.groups:
        reasons = [f"{op.node} ({op.op_type}): {op.reason}" for op in grouping.loose if op.reason]
        found = "; ".join(reasons[:2]) or "it has no convolution and no matrix product"
        raise ModelError(f"the model has nothing to quantize ({found}): build it in FP16 as it is")


def candidate_ranges_of(state: State) -> Stage[tuple[Ranges, ...]]:
    """Its ranges by every calibration method that was asked for."""
    graph, grouping = state.graph, groups_of(state)

    def make(job: Job) -> tuple[Ranges, ...]:
        return calibrate(
            job[graph], job[grouping], job[CALIBRATION], job[RUNTIME],
            methods=job.settings.calibration, formats=job.settings.calibrated, batch=job[BATCH],
            given=spread_given(job[PREPARED].amax, job[grouping]), progress=job.progress, spread=job[SPREAD],
        )  # fmt: skip

    return Stage(
        f"ranges{state.suffix}", make, json_kind(tuple[Ranges, ...]),
        needs=(graph, grouping, PREPARED, CALIBRATION, RUNTIME), reads=("calibration", "calibrated"),
        uses=(BATCH, SPREAD), title=f"Calibrating{state.suffix.replace('.', ' ')}",
    )  # fmt: skip


def network_of(
    state: State,
    methods: Mapping[Precision, str],
    by_tensor: Mapping[Precision, Stage[Mapping[str, str]]] | None = None,
) -> Stage[Network]:
    """The model with the ranges that its own one of `methods`, or of those `by_tensor`, gives every format."""
    candidates, restricted = candidate_ranges_of(state), restricted_groups_of(state)
    model, graph, apart = state.model, state.graph, by_tensor or {}
    by = ",".join(f"{precision}={method}" for precision, method in methods.items())

    def make(job: Job) -> Network:
        chosen = by_format(job[candidates], methods, {precision: job[stage] for precision, stage in apart.items()})
        ranges = share_scales(chosen, job[restricted])
        return Network(job[model], job[graph], job[restricted], ranges)

    return Stage(
        f"network by {by}", make, needs=(model, graph, restricted, candidates, *apart.values()),
        digest=_content_of,
    )  # fmt: skip


def restricted_groups_of(state: State) -> Stage[Grouping]:
    """The groups, told what runs that is not in 8 bit, and with what was observed forbids, the same by every method."""
    graph, found, candidates = state.graph, groups_of(state), candidate_ranges_of(state)
    ratio = state.own_scales

    def make(job: Job) -> Grouping:
        grouping, ranges = replace(job[found], top=job.settings.top, refuge=job[REFUGE]), job[candidates][0]
        given = spread_given(job[PREPARED].amax, grouping)
        if job.settings.from_qdq:
            grouping = restrict_to_given(grouping, given)
        restricted = restrict_to_ranges(with_own_scales(grouping, ranges, ratio), ranges, job[graph].graph)
        return restricted if restricted.needs_refuge else replace(restricted, refuge=Precision.FP32)

    return Stage(
        "restricted-groups", make, needs=(found, candidates, graph, PREPARED, REFUGE), reads=("top", "from_qdq"),
        digest=content_digest(Grouping), constants=(ratio,),
    )  # fmt: skip


def _content_of(network: Network) -> str:
    """What tells a network from others: its model, its groups and its ranges."""
    return key_of(
        network.model.sha256, to_stored_json(network.grouping, Grouping), to_stored_json(network.ranges, Ranges)
    )
