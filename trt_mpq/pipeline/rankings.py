"""The rankings of a run: one that the search uses, and others to compare it with, each a stage of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from trt_mpq.artifacts.stages import Stages
from trt_mpq.artifacts.storage import key_of
from trt_mpq.emit.network import Network
from trt_mpq.pipeline.inputs import Choices, Data
from trt_mpq.pipeline.keys import Keys
from trt_mpq.sensitivity import SensitivityInputs, SensitivityMetric
from trt_mpq.sensitivity.agreement import Agreement, agreement_of
from trt_mpq.sensitivity.base import Elsewhere
from trt_mpq.settings import Settings
from trt_mpq.types import Ranking


class Rankings:
    """Ranks the groups by every metric that was asked for.

    Args:
        settings: What the user asked for.
        choices: The metrics that it names.
        data: The calibration data.
        keys: What the rankings depend on.
        stages: Keep them.
        network: Gives the calibrated network.
        elsewhere: Has parts of a metric done by workers, see `SensitivityInputs`.
    """

    def __init__(
        self,
        settings: Settings,
        choices: Choices,
        data: Data,
        keys: Keys,
        stages: Stages,
        network: Callable[[], Network],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._settings, self._choices, self._data = settings, choices, data
        self._keys, self._stages, self._network, self._elsewhere = keys, stages, network, elsewhere

    @cached_property
    def first(self) -> Ranking:
        """The ranking of the search."""
        return self._ranked(self._choices.sensitivity, "sensitivity")

    @cached_property
    def all(self) -> tuple[Ranking, ...]:
        """The ranking of the search, then those it is compared with."""
        others = (self._ranked(metric, f"sensitivity.{metric.name}") for metric in self._choices.compared)
        return (self.first, *others)

    @cached_property
    def agreement(self) -> Agreement | None:
        """How well they agree; None if there is one only."""
        if not self._choices.compared:
            return None
        metrics = (self._choices.sensitivity, *self._choices.compared)
        return self._stages.value(
            "agreement", key_of(*map(self._key, metrics)), "agreement.json", Agreement,
            lambda _: agreement_of(self.all),
        )  # fmt: skip

    def _ranked(self, metric: SensitivityMetric, stage: str) -> Ranking:
        return self._stages.value(
            stage, self._key(metric), f"{stage}.json", Ranking,
            lambda progress: metric.rank(self.inputs, progress), title=f"Sensitivity ({metric.name})",
        )  # fmt: skip

    def _key(self, metric: SensitivityMetric) -> str:
        return self._keys.ranking(self._network(), metric.name)

    @cached_property
    def inputs(self) -> SensitivityInputs:
        """What the metrics are given."""
        network, settings, data = self._network(), self._settings, self._data
        return SensitivityInputs(
            graph=network.graph, grouping=network.grouping, ranges=network.ranges, candidates=settings.formats,
            samples=data.calibration, sample_limit=settings.sensitivity_samples, loss=data.loss,
            runtime=self._choices.runtime, batch=data.batch, seed=settings.seed,
            elsewhere=self._elsewhere,
        )  # fmt: skip
