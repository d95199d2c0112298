"""Refinement of the calibrated network: learned rounding, then bias correction, each kept where it does no harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trt_mpq.artifacts.stage import Job, Kind, Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import BiasCorrections, Network, RefinedWeights, Refinements, Roundings
from trt_mpq.pipeline.correcting import CORRECTING_NEEDS, CORRECTING_USES, biases_corrected
from trt_mpq.pipeline.scored import ScoredNetwork
from trt_mpq.pipeline.scoring import REQUIRED
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, RUNTIME
from trt_mpq.pipeline.weight_refinement import WEIGHTS, clipped_weights, gptq_weights, weights_of_file
from trt_mpq.refine.adaround import learn_rounding
from trt_mpq.refine.files import corrections_from_file, roundings_from_file, save_corrections, save_roundings
from trt_mpq.refine.recovery import Refinement, record_of_values, worth_keeping
from trt_mpq.types import Precision, PrecisionPlan, RefinementRecord

CORRECTIONS = Kind(".npz", save_corrections, corrections_from_file)
ROUNDINGS = Kind(".npz", save_roundings, roundings_from_file)


@dataclass(frozen=True)
class SharedRefinements:
    """The refinements that all plans share, and what each one that was tried did to the uniform plan of a format."""

    refinements: Refinements
    records: tuple[RefinementRecord, ...] = ()


def nearest_corrections(
    network: Stage[Network], precision: Precision, method: str, variant: str = ""
) -> Stage[BiasCorrections]:
    """The corrections under the uniform plan of `precision`, calibrated by `method`, weights rounded to nearest.

    `method` is empty where nothing is calibrated; `variant` tells networks apart that differ in their scales.
    """
    title = f"Correcting biases for uniform {precision}{f' by {method}' if method else ''}"
    return _corrections(f"corrections-{precision}{f'-{method}' if method else ''}{variant}", network, precision, title)


def choose_refinements(
    store: Store, scored: ScoredNetwork, nearest: Mapping[Precision, Stage[BiasCorrections]]
) -> Stage[SharedRefinements]:
    """The refinements of a calibrated network that were asked for, of the formats whose own plans they do not hurt.

    Args:
        store: Tells which roundings are worth keeping, which decides what biases are corrected for.
        scored: The network.
        nearest: The corrections of every format where weights are rounded to nearest.
    """
    rounded = _choose_weights(store, scored)
    if not store.settings.bias_correction:
        return rounded
    found = store[rounded].refinements
    learned = {precision for _, precision in (*found.roundings, *found.weights)}
    required = REQUIRED if store.settings.seeks_target else None
    return _kept_corrections(scored, rounded, {p: p in learned for p in nearest}, nearest, required)


def _choose_weights(store: Store, scored: ScoredNetwork) -> Stage[SharedRefinements]:
    """How weights are quantized, each way that was asked for kept where it does no harm."""
    settings = store.settings
    if settings.adaround:
        return _kept_roundings(scored, settings.formats)
    kept = _weights_of_file(scored, settings.formats) if settings.from_qdq else _NOTHING
    if settings.clip_weights:
        found = {p: clipped_weights(scored.network, p) for p in settings.formats}
        kept = _kept_weights("clipped", Refinement.WEIGHT_SCALES, scored, kept, found)
    if settings.gptq:
        clipped = {precision for _, precision in store[kept].refinements.weights}
        found = {
            p: gptq_weights(scored.network, p, clipped_weights(scored.network, p) if p in clipped else None)
            for p in settings.formats
        }
        kept = _kept_weights("gptq", Refinement.GPTQ, scored, kept, found)
    return kept if kept is _NOTHING else _in_one_file(kept)


def _weights_of_file(scored: ScoredNetwork, formats: tuple[Precision, ...]) -> Stage[SharedRefinements]:
    """The weights that a quantized file has, whatever they score: its scales are what was asked for."""
    parts = tuple(weights_of_file(scored.network, precision) for precision in formats)

    def make(job: Job) -> SharedRefinements:
        return SharedRefinements(Refinements(weights={key: w for part in parts for key, w in job[part].items()}))

    return Stage("kept-weights-given", make, needs=parts, digest=_content_of)


def _in_one_file(kept: Stage[SharedRefinements]) -> Stage[SharedRefinements]:
    """The same, whose weights the device half finds in `weights.npz`."""
    weights: Stage[RefinedWeights] = Stage(
        "weights", lambda job: job[kept].refinements.weights, WEIGHTS, needs=(kept,)
    )  # fmt: skip

    def make(job: Job) -> SharedRefinements:
        return replace(job[kept], refinements=replace(job[kept].refinements, weights=job[weights]))

    return Stage("kept-weights", make, needs=(kept, weights), digest=_content_of)


def _kept_weights(
    name: str,
    kind: Refinement,
    scored: ScoredNetwork,
    before: Stage[SharedRefinements],
    found: Mapping[Precision, Stage[RefinedWeights]],
) -> Stage[SharedRefinements]:
    """What was there `before`, with the weights that were `found` where they do not lower the score of a format."""

    def make(job: Job) -> SharedRefinements:
        shared = job[before]
        weights = {key: weight for stage in found.values() for key, weight in job[stage].items()}
        records = []
        for precision in found:
            tried = replace(shared.refinements, weights=weights)
            plain = scored.score(job, precision, f"without {kind.value}", shared.refinements)
            refined = scored.score(job, precision, f"with {kind.value}", tried)
            records.append(record_of_values(kind, precision, plain, refined, weights))
        kept = {**shared.refinements.weights, **worth_keeping(weights, records)}
        return SharedRefinements(replace(shared.refinements, weights=kept), (*shared.records, *records))

    needs = (before, *found.values(), *scored.needs(found))
    return Stage(f"kept-weights-{name}", make, needs=needs, digest=_content_of)


def learned_roundings(name: str, network: Stage[Network], plan: Stage[PrecisionPlan], whose: str) -> Stage[Roundings]:
    """How weights are rounded that `plan` quantizes, as is learned under it."""

    def make(job: Job) -> Roundings:
        settings = job.settings
        return learn_rounding(
            job[network], job[plan], job[CALIBRATION], job[RUNTIME], steps=settings.adaround_steps, seed=settings.seed,
            batch=job[BATCH], progress=job.progress,
        )  # fmt: skip

    return Stage(
        f"roundings-{name}", make, ROUNDINGS, needs=(network, plan, CALIBRATION, RUNTIME),
        reads=("adaround_steps", "seed"), uses=(BATCH,), title=f"Learning how to round {whose} weights",
    )  # fmt: skip


_NOTHING = Stage("no-refinements", lambda job: SharedRefinements(Refinements()))


def _uniform_plan(network: Stage[Network], precision: Precision) -> Stage[PrecisionPlan]:
    return Stage(
        f"uniform {precision}",
        lambda job: job[network].grouping.uniform(precision),
        needs=(network,),
        digest=lambda plan: plan.digest,
    )


def _kept_roundings(scored: ScoredNetwork, formats: tuple[Precision, ...]) -> Stage[SharedRefinements]:
    network = scored.network
    learned = {p: learned_roundings(str(p), network, _uniform_plan(network, p), str(p)) for p in formats}

    def make(job: Job) -> SharedRefinements:
        roundings = {key: up for stage in learned.values() for key, up in job[stage].items()}
        records = []
        for precision in learned:
            before = scored.score(job, precision, "as calibrated", Refinements())
            after = scored.score(job, precision, "with learned rounding", Refinements(roundings=roundings))
            records.append(record_of_values(Refinement.ROUNDING, precision, before, after, roundings))
        return SharedRefinements(Refinements(roundings=worth_keeping(roundings, records)), tuple(records))

    return Stage("kept-roundings", make, needs=(*learned.values(), *scored.needs(formats)), digest=_content_of)


def _corrections(
    name: str,
    network: Stage[Network],
    precision: Precision,
    title: str,
    rounded: Stage[SharedRefinements] | None = None,
) -> Stage[BiasCorrections]:
    """The corrections under the uniform plan of `precision`, with roundings where these were learned."""

    def make(job: Job) -> BiasCorrections:
        refinements = job[rounded].refinements if rounded else Refinements()
        return biases_corrected(job, job[network], job[network].grouping.uniform(precision), refinements, job.progress)

    needs: tuple[Stage[Any], ...] = (network, *CORRECTING_NEEDS)
    needs = (*needs, rounded) if rounded else needs
    return Stage(name, make, CORRECTIONS, needs=needs, uses=CORRECTING_USES, title=title)


def _kept_corrections(
    scored: ScoredNetwork,
    rounded: Stage[SharedRefinements],
    learned: Mapping[Precision, bool],
    nearest: Mapping[Precision, Stage[BiasCorrections]],
    required: Stage[float] | None,
) -> Stage[SharedRefinements]:
    """Corrections kept where the fastest plan and its file score what is `required` with them, or only with them.

    Where neither way does, or nothing is required, they are kept if the plan scores no less than without.
    """

    def own(precision: Precision) -> Stage[BiasCorrections]:
        if not learned[precision]:
            return nearest[precision]
        name, title = f"corrections-{precision}-rounded", f"Correcting biases for rounded {precision}"
        return _corrections(name, scored.network, precision, title, rounded)

    parts = tuple(map(own, learned))
    merged: Stage[BiasCorrections] = Stage(
        "corrections", lambda job: {key: shift for part in parts for key, shift in job[part].items()}, CORRECTIONS,
        needs=parts,
    )  # fmt: skip

    def make(job: Job) -> SharedRefinements:
        before, corrections = job[rounded], job[merged]
        refinements = replace(before.refinements, corrections=corrections)
        least, records = None if required is None else job[required], []
        for precision in learned:
            corrected, plain = scored.score(job, precision, "with bias correction", refinements), None
            loses = False
            if not scored.keeps(job, precision, refinements, least):
                plain = scored.score(job, precision, "as calibrated", before.refinements)
                loses = scored.keeps(job, precision, before.refinements, least)
            name = Refinement.BIAS_CORRECTION
            records.append(record_of_values(name, precision, plain, corrected, corrections, loses_target=loses))
        kept = replace(before.refinements, corrections=worth_keeping(corrections, records))
        return SharedRefinements(kept, (*before.records, *records))

    needs = (rounded, merged, *scored.needs(learned))
    needs = needs if required is None else (*needs, required)
    return Stage("kept-refinements", make, needs=needs, digest=_content_of)


def _content_of(kept: SharedRefinements) -> str:
    return kept.refinements.digest
