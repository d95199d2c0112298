"""What rescaling the model did to the fastest plans, and the choice whether AWQ's scales of channels stay.

Weights and corrections belong to a format each; scales of channels are folded into the one model that all formats
share, so that they stay or go for all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import Refinements
from trt_mpq.pipeline.model_states import State, states
from trt_mpq.pipeline.networks import network_of
from trt_mpq.pipeline.scored import ScoredNetwork
from trt_mpq.pipeline.scoring import FP32
from trt_mpq.refine.recovery import Refinement, records_of_model, stays_for_all
from trt_mpq.settings import Settings
from trt_mpq.types import Precision, RefinementRecord


def choose_states(store: Store) -> tuple[State, ...]:
    """The model as it was asked to be rescaled, without AWQ where that lowers what the fastest plans score together.

    That is told by the first calibration method, before another is chosen.
    """
    found = states(store.settings)
    if not _is_chosen(found[-1]):
        return found
    store.ensure(FP32)  # first of all, because a metric that does not work fails on it
    before, after = (store[_scores(state, store.settings)] for state in found[-2:])
    return found if stays_for_all(before, after) else found[:-1]


def records_of_rescaling(store: Store) -> Iterator[RefinementRecord]:
    """What every step did to the fastest plan of every format, in the order of the steps, by the first method."""
    found = states(store.settings)
    if not found[1:]:
        return
    scores = [store[_scores(state, store.settings)] for state in found]
    for (before, after), state in zip(pairwise(scores), found[1:], strict=True):
        assert state.made_by is not None
        name, stage = state.made_by
        changed = store[stage]
        yield from records_of_model(name, before, after, changed.places, changed.left, chosen=_is_chosen(state))


def _is_chosen(state: State) -> bool:
    """Whether the state is left out where it does harm; what else is rescaled stays, as was asked for."""
    return state.made_by is not None and state.made_by[0] is Refinement.AWQ


def _scores(state: State, settings: Settings) -> Stage[Mapping[Precision, float]]:
    """What the plans that formats are judged by score in a state, before anything but the model is refined."""
    formats, text = settings.formats, state.lacks or "as calibrated"
    methods = {precision: settings.calibration[0] for precision in formats if precision in settings.calibrated}
    scored = ScoredNetwork.of(network_of(state, methods), state)
    return Stage(
        "scores-by-format", lambda job: {p: scored.score(job, p, text, Refinements()) for p in formats},
        needs=scored.needs(formats), constants=(formats, text),
    )  # fmt: skip
