"""The calibrated network of a run, its calibration methods chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.emit import BiasCorrections, Network
from trt_mpq.engine.handover import CalibratedNetwork
from trt_mpq.pipeline.calibration_methods import Choice, choose_methods
from trt_mpq.pipeline.described import described_of
from trt_mpq.pipeline.model_states import State, states
from trt_mpq.pipeline.networks import groups_of, network_of, require_groups
from trt_mpq.pipeline.own_scales import NOTHING_KNOWN, Known, choose_own_scales
from trt_mpq.pipeline.refinement import SharedRefinements, choose_refinements, nearest_corrections
from trt_mpq.pipeline.rescaling import choose_states, records_of_rescaling
from trt_mpq.pipeline.scored import ScoredNetwork
from trt_mpq.refine.recovery import record_of_calibration
from trt_mpq.settings import Settings
from trt_mpq.types import Grouping, Precision, RefinementRecord


@dataclass(frozen=True)
class CalibrationStages:
    """The stages of the calibrated network.

    Attributes:
        states: The model from the prepared one to the one that plans are made of.
        choices: How the calibration method of every format was chosen.
        scored: The network, and where scores of its plans are remembered.
        described: The network as it is handed to the device half.
        known: What was found while scales were chosen.
    """

    states: tuple[State, ...]
    choices: Mapping[Precision, Choice]
    scored: ScoredNetwork
    described: Stage[CalibratedNetwork]
    known: Stage[Known] = NOTHING_KNOWN

    @property
    def nearest(self) -> Mapping[Precision, Stage[BiasCorrections]]:
        """The corrections of every format where weights are rounded to nearest."""
        final = self.states[-1]

        def corrections(precision: Precision, choice: Choice) -> Stage[BiasCorrections]:
            network = _network_by({precision: choice}, final)
            return nearest_corrections(network, precision, choice.method, final.variant)

        return {precision: corrections(precision, choice) for precision, choice in self.choices.items()}

    def choose_refinements(self, store: Store) -> Stage[SharedRefinements]:
        """The refinements that all plans share."""
        return choose_refinements(store, self.scored, self.nearest)

    def in_scales(self, ratio: float) -> CalibrationStages:
        """The same with scales of their own for other operands of Concats, see `State.own_scales`."""
        return _stages((*self.states[:-1], replace(self.states[-1], own_scales=ratio)), self.choices)

    def records(self, store: Store, shared: SharedRefinements) -> Iterator[RefinementRecord]:
        """What every step did to the uniform plan of every format, in the order of the steps."""
        rescaled = list(records_of_rescaling(store))
        for precision, choice in self.choices.items():
            yield from (record for record in rescaled if record.precision is precision)
            if len(choice.scores) > 1 or choice.by_mixed_plans:
                yield record_of_calibration(
                    precision, choice.method, choice.scores, choice.tensors, mixed=choice.by_mixed_plans
                )
            yield from (record for record in shared.records if record.precision is precision)


def final_groups_of(settings: Settings) -> Stage[Grouping]:
    """The groups of the model that plans are made of."""
    return groups_of(states(settings)[-1])


def choose_calibration(store: Store) -> CalibrationStages:
    """Choose a calibration method for every format, and define the network that it gives."""
    require_groups(store, states(store.settings)[-1])
    found = choose_states(store)
    choices = choose_methods(store, found[-1])
    return _stages((*found[:-1], choose_own_scales(store, found[-1], choices)), choices)


def _stages(found: tuple[State, ...], choices: Mapping[Precision, Choice]) -> CalibrationStages:
    network = _network_by(choices, found[-1])
    scored = ScoredNetwork.of(network, found[-1])
    return CalibrationStages(found, choices, scored, described_of(network))


def _network_by(choices: Mapping[Precision, Choice], state: State) -> Stage[Network]:
    methods = {precision: choice.method for precision, choice in choices.items() if choice.method}
    by_tensor = {precision: choice.by_tensor for precision, choice in choices.items() if choice.by_tensor}
    return network_of(state, methods, by_tensor)
