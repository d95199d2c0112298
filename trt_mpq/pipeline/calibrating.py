"""The calibrated networks of one run, and the choice of a calibration method for every format.

Which clipping serves a network best cannot be told from its tensors alone: the least squared error wins on one and
loses to the plain largest magnitude on the next. Trying costs a few passes over the evaluation set; keeping groups in
FP16 because of a range chosen badly costs latency for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from trt_mpq.artifacts.stages import Stages
from trt_mpq.calibrate.ranges import CalibrationInputs, by_format, calibrate, restrict_to_ranges
from trt_mpq.emit import Refinements
from trt_mpq.emit.network import Network
from trt_mpq.groups import groups_from_model
from trt_mpq.pipeline.correcting import Correcting
from trt_mpq.pipeline.inputs import Choices, Data
from trt_mpq.pipeline.keys import Keys
from trt_mpq.pipeline.scores import RunScores
from trt_mpq.pipeline.subject import State
from trt_mpq.refine.recovery import calibration_record
from trt_mpq.settings import Settings
from trt_mpq.types import Grouping, Precision, Ranges, RefinementRecord
from trt_mpq.types.observer import Progress


class Networks:
    """The model of a run in any of its states, grouped and calibrated.

    Args:
        settings: What the user asked for.
        choices: What the settings name.
        data: The calibration data.
        keys: Keys of the stages.
        stages: Keep what is computed here.
    """

    def __init__(self, settings: Settings, choices: Choices, data: Data, keys: Keys, stages: Stages) -> None:
        self._settings, self._choices, self._data, self._keys, self._stages = settings, choices, data, keys, stages
        self._restricted: dict[str, Grouping] = {}

    def grouping(self, state: State) -> Grouping:
        """The groups of `state`."""
        return self._stages.value(
            f"group{state.suffix}", self._keys.groups(state.model), f"groups{state.suffix}.json", Grouping,
            lambda _: groups_from_model(state.graph, self._data.sample_shapes, exclusions=self._settings.exclusions),
        )  # fmt: skip

    def candidates(self, state: State) -> tuple[Ranges, ...]:
        """The ranges of `state` by every method that was asked for."""
        suffix = state.suffix
        given = CalibrationInputs(
            state.graph, self._groups(state), self._data.calibration, self._choices.runtime,
            self._settings.calibration, self._settings.formats, self._data.batch,
        )  # fmt: skip
        return self._stages.value(
            f"calibrate{suffix}", self._keys.ranges(state.model), f"ranges{suffix}.json", tuple[Ranges, ...],
            lambda progress: calibrate(given, progress), title=f"Calibrating{suffix.replace('.', ' ')}",
        )  # fmt: skip

    def calibrated(self, state: State, methods: Mapping[Precision, str]) -> Network:
        """`state` with the ranges that its own one of `methods` gives every format."""
        candidates = self.candidates(state)
        if state.suffix not in self._restricted:  # what was observed forbids, the same by every method
            groups = self._groups(state)
            self._restricted[state.suffix] = restrict_to_ranges(groups, candidates[0], state.graph.graph)
        ranges = by_format(candidates, methods)
        return Network(state.model, state.graph, self._restricted[state.suffix], ranges)

    def _groups(self, state: State) -> Grouping:
        return self._choices.in_high_precision(self.grouping(state))


@dataclass(frozen=True)
class Trial:
    """What the uniform plan of a precision scores with the ranges of a method, its biases corrected if that helps.

    `keeps_target` is about the file that would be delivered too; it is None where no accuracy is asked for.
    """

    precision: Precision
    method: str
    score: float
    keeps_target: bool | None


class MethodChoice:
    """Chooses a calibration method for every format: the first whose uniform plan keeps the target.

    If none does, or no accuracy is asked for, it is the one whose uniform plan scores best. Learned rounding comes
    after the choice.

    Args:
        settings: What the user asked for.
        keys: Keys of the stages.
        stages: Keep what is computed here.
        state: The model that is calibrated.
        networks: Calibrates it.
        correcting: Corrects biases.
        scores: Scores uniform plans.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        stages: Stages,
        state: State,
        networks: Networks,
        correcting: Correcting,
        scores: RunScores,
    ) -> None:
        self._settings, self._keys, self._stages = settings, keys, stages
        self._state, self._networks, self._correcting, self._scores = state, networks, correcting, scores

    @cached_property
    def methods(self) -> Mapping[Precision, str]:
        """The method of every format; if there is one only, it is not tried."""
        first, *others = self._settings.calibration
        return {p: self._best(p).method if others else first for p in self._settings.formats}

    def records(self, precision: Precision) -> Iterator[RefinementRecord]:
        """What trying further methods did for the uniform plan of `precision`; nothing if the first kept the target."""
        trials = self._of(precision)
        if len(trials) > 1:
            first, best = trials[0], self._best(precision)
            tried = tuple(trial.method for trial in trials)
            yield calibration_record(precision, first.score, best.score, best.method, tried)

    def _best(self, precision: Precision) -> Trial:
        return max(self._of(precision), key=lambda trial: (bool(trial.keeps_target), trial.score))

    def _of(self, precision: Precision) -> tuple[Trial, ...]:
        return tuple(trial for trial in self._trials if trial.precision is precision)

    @cached_property
    def _trials(self) -> tuple[Trial, ...]:
        if len(self._settings.calibration) == 1:
            return ()

        def compute(_: Progress) -> tuple[Trial, ...]:
            # Asked first: a metric that does not work fails on FP32.
            required = self._scores.required if self._settings.seeks_target else None
            return tuple(trial for precision in self._settings.formats for trial in self._tried(precision, required))

        return self._stages.value(
            "choose-calibration", self._keys.methods(self._state.model), "calibration.json", tuple[Trial, ...], compute
        )

    def _tried(self, precision: Precision, required: float | None) -> Iterator[Trial]:
        seen: list[Ranges] = []
        for ranges in self._networks.candidates(self._state):
            if not any(ranges.agrees(other, precision) for other in seen):
                seen.append(ranges)
                trial = self._try(precision, ranges.methods[precision], required)
                yield trial
                if trial.keeps_target:
                    return

    def _try(self, precision: Precision, method: str, required: float | None) -> Trial:
        network = self._networks.calibrated(self._state, {precision: method})
        score, refinements = self._scores.uniform(precision, f"by {method}", network, Refinements()), Refinements()
        if self._settings.bias_correction:
            corrected = Refinements(corrections=self._correcting.unrounded(network, precision))
            after = self._scores.uniform(precision, f"by {method}, with bias correction", network, corrected)
            if after >= score:
                score, refinements = after, corrected
        if required is None:
            return Trial(precision, method, score, None)
        file = self._scores.delivered(network, refinements)
        keeps = score >= required and file(network.uniform(precision)).value >= required
        return Trial(precision, method, score, keeps)
