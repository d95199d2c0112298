"""The calibrated network of a run, its calibration methods chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trt_mpq.artifacts.files import write_arrays
from trt_mpq.artifacts.stage import Job, Stage, json_kind
from trt_mpq.artifacts.store import Store
from trt_mpq.dataset.chunks import fixed_batch
from trt_mpq.emit import Network, Refinements
from trt_mpq.engine.handover import SAMPLES, CalibratedNetwork, leading_samples
from trt_mpq.pipeline.calibration import Choice, choose_methods
from trt_mpq.pipeline.models import State, states
from trt_mpq.pipeline.networks import groups, network
from trt_mpq.pipeline.refinement import Kept, Scored, kept_refinements, nearest_corrections
from trt_mpq.pipeline.scoring import SCORER, score_cache
from trt_mpq.pipeline.sources import BATCH, EVALUATION, PREPARED, SAMPLE_SHAPES
from trt_mpq.refine.recovery import record_of_calibration, record_of_model
from trt_mpq.settings import Settings
from trt_mpq.types import Grouping, Precision, RefinementRecord


@dataclass(frozen=True)
class Calibrated:
    """The calibrated network.

    Attributes:
        states: The model from the prepared one to the one that plans are made of.
        choices: How the calibration method of every format was chosen.
        scored: The network, and where scores of its plans are remembered.
        described: The network as it is handed to the device half.
    """

    states: tuple[State, ...]
    choices: Mapping[Precision, Choice]
    scored: Scored
    described: Stage[CalibratedNetwork]

    def kept(self, store: Store) -> Stage[Kept]:
        """The refinements that all plans share."""
        own = {precision: choice.method for precision, choice in self.choices.items()}
        final = self.states[-1]
        nearest = {p: nearest_corrections(network(final, {p: method}), p, method) for p, method in own.items()}
        return kept_refinements(store, self.scored, nearest)

    def records(self, store: Store, kept: Kept) -> Iterator[RefinementRecord]:
        """What every step did to the uniform plan of every format, in the order of the steps."""
        scores = [store[_uniform_scores(state, self.choices)] for state in self.states] if self.states[1:] else []
        for precision, choice in self.choices.items():
            for before, after, state in zip(scores, scores[1:], self.states[1:], strict=False):
                assert state.made_by is not None
                name, stage = state.made_by
                yield record_of_model(name, precision, before[precision], after[precision], store[stage].places)
            if len(choice.trials) > 1:
                best = max(trial.score for trial in choice.trials if trial.method == choice.method)
                tried = tuple(trial.method for trial in choice.trials)
                yield record_of_calibration(precision, choice.trials[0].score, best, choice.method, tried)
            yield from (record for record in kept.records if record.precision is precision)


def final_groups(settings: Settings) -> Stage[Grouping]:
    """The groups of the model that plans are made of."""
    return groups(states(settings)[-1])


def calibrated(store: Store) -> Calibrated:
    """Choose a calibration method for every format, and define the network that it gives."""
    found = states(store.settings)
    choices = choose_methods(store, found[-1])
    of = _by_choice(found[-1], choices)
    return Calibrated(found, choices, Scored(of, score_cache(found[-1])), _described(of))


def _by_choice(state: State, choices: Mapping[Precision, Choice]) -> Stage[Network]:
    return network(state, {precision: choice.method for precision, choice in choices.items()})


def _uniform_scores(state: State, choices: Mapping[Precision, Choice]) -> Stage[dict[Precision, float]]:
    """What the uniform plans of a state score before anything but the model is refined."""
    scored = Scored(_by_choice(state, choices), score_cache(state))
    text = state.lacks or "as calibrated"
    return Stage(
        "uniform-scores", lambda job: {p: scored.uniform(job, p, text, Refinements()) for p in choices},
        needs=(scored.network, scored.cache, SCORER),
    )  # fmt: skip


def _described(of: Stage[Network]) -> Stage[CalibratedNetwork]:
    def make(job: Job) -> CalibratedNetwork:
        found, batch, settings = job[of], job[BATCH], job.settings
        write_arrays(leading_samples(job[EVALUATION]), job.path(SAMPLES))
        return CalibratedNetwork(
            found.model, job[PREPARED], found.grouping, found.ranges, batch,
            1 if fixed_batch(job[PREPARED].inputs) else batch, job[SAMPLE_SHAPES], settings.precisions,
            settings.mix_formats, settings.seed,
        )  # fmt: skip

    return Stage(
        "network", make, json_kind(CalibratedNetwork), needs=(of, PREPARED, EVALUATION, BATCH, SAMPLE_SHAPES),
        reads=("precisions", "mix_formats", "seed"), files=(SAMPLES,),
    )  # fmt: skip
