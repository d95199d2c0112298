"""A run: one model on its way to a mixed-precision plan, its engine and its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trt_mpq.artifacts.store import Store
from trt_mpq.pipeline.calibration import CalibrationStages, choose_calibration, final_groups_of
from trt_mpq.pipeline.checks import check_before_search, check_inputs, check_pins, check_settings, without_effect
from trt_mpq.pipeline.delivery import DeliveryStages, choose_delivery, deliver_tried
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.ranking import RankingStages, rankings_of
from trt_mpq.pipeline.report import environment, write_report
from trt_mpq.pipeline.search import SearchStages, choose_search
from trt_mpq.pipeline.sources import SOURCE, data_digests
from trt_mpq.pipeline.ties import choose_ties
from trt_mpq.pipeline.workers import RunLocation, distribution_of, remote_of, workers_for
from trt_mpq.report.data import Report
from trt_mpq.sensitivity import Sensitivities, SensitivityInputs
from trt_mpq.settings import Settings
from trt_mpq.types import (
    Comparison,
    Grouping,
    LatencyError,
    Observer,
    PrecisionPlan,
    Ranges,
    SearchResult,
    SilentObserver,
)


class Run:
    """One model on its way to a mixed-precision plan.

    Its stages become known on the way: each part of the flow is defined once what it depends on was chosen. Nothing is
    done twice, for the store remembers.

    Args:
        settings: What the user asked for.
        folder: The run folder; created if absent.
        observer: Told what happens.
        command: The command line, for the record; None in a worker, which only reads what was done.
        lenders: Run folders of the same model for other devices, whose stages are taken over where no device decides.

    Raises:
        TrtMpqError: The model or the folder cannot be used.
    """

    def __init__(
        self, settings: Settings, folder: Path, observer: Observer, command: str | None, lenders: Sequence[Path] = ()
    ) -> None:
        check_settings(settings)
        check_inputs(settings, folder)
        self.settings, self._command = settings, command or ""
        location = RunLocation(settings, folder, opened_for_ranking).for_workers()
        self._distribution, remote = distribution_of(location), remote_of(location, settings)
        self.store = Store(folder, settings, observer, source=SOURCE, writable=command is not None, lenders=lenders)
        if command is not None:
            check_pins(self.store)  # before they are kept
            self.store.describe(source=str(settings.model.resolve()), command=command, environment=environment())
        self.gpu = Gpu(self.store, remote)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where an engine may come to lie: the run folder."""
        return (self.store.folder,)

    def release(self) -> None:
        """Let other processes work on the run folder, which this run does no more."""
        self.store.release()

    # What the command line offers, in the order of the flow.

    def inspect(self) -> Grouping:
        """Prepare the model and find its groups."""
        return self.store[final_groups_of(self.settings)]

    def calibrate(self) -> Ranges:
        """Ranges of every tensor that a group quantizes."""
        with workers_for(self.store):
            return self.store[self.calibration_stages().described].ranges

    def sensitivities(self) -> Sensitivities:
        """Sensitivity of every group to every candidate precision, by every metric that was asked for."""
        with workers_for(self.store):
            return self.ranking_stages().all(self.store)

    def search(self) -> SearchResult:
        """The fastest plan found that keeps the accuracy target."""
        with workers_for(self.store):
            return self.store[self.delivery_stages().searched].result

    def task(self) -> tuple[str, float]:
        """The task metric, and the least score by it that a plan must have."""
        found = self.store[self.delivery_stages().searched]
        return found.metric, found.required

    def latencies(self) -> tuple[str, LatencyError | None]:
        """Where the latencies of plans come from, and how far modelled ones may be off."""
        known = self.store[self.search_stages().latency]
        return known.source, known.error

    def emit(self) -> PrecisionPlan:
        """Write the chosen plan as ONNX files, and check that the written file scores as the search said."""
        with workers_for(self.store):
            delivery = self.delivery_stages()
            self.store.ensure(delivery.scores)
            self.store.describe_data(data_digests(self.store))
            return self.store[delivery.plan.result].chosen.plan

    def emit_tried(self, digest: str) -> PrecisionPlan:
        """Write another plan that the search tried; raises SettingsError unless `digest` begins that of one."""
        return deliver_tried(self.store, self.calibration_stages(), self.search_stages(), digest)

    def compare(self) -> Comparison:
        """Polygraphy's comparison of the typed model with FP32."""
        return self.store[self.delivery_stages().judging.comparison]

    def report(self) -> Report:
        """Everything above and the engine, as report.json and report.html.

        Raises:
            RuntimeFailure: An engine must be built (`engine.build` is "always") and this machine cannot.
            ComparisonFailed: An output of typed.onnx or of the engine fails the comparison, and that is required.
        """
        if self.settings.engine.build == "always":
            self.gpu.require_engine()
        check_before_search(self.store, self.gpu)
        idle = tuple(without_effect(self.settings))
        for text in idle:
            self.store.observer.note(text)
        self.emit()
        calibration, search, delivery = self.calibration_stages(), self.search_stages(), self.delivery_stages()
        return write_report(self.store, calibration, search, delivery, self.gpu, self._command, idle)

    # The stages of every part of the flow; the choices that define them are made now if they never were.

    def calibration_stages(self) -> CalibrationStages:
        """Those of the calibrated network."""
        return choose_ties(self.store, choose_calibration(self.store), self.ranking_stages().first)

    def ranking_stages(self) -> RankingStages:
        """Those of the rankings of its groups, in the scales that calibration alone chooses."""
        network = choose_calibration(self.store).scored.network
        return rankings_of(self.settings, network, self._distribution, self.gpu)

    def search_stages(self) -> SearchStages:
        """Those of the search."""
        check_before_search(self.store, self.gpu)
        return choose_search(self.store, self.calibration_stages(), self.ranking_stages(), self.gpu)

    def delivery_stages(self) -> DeliveryStages:
        """Those that deliver the plan that was found."""
        return choose_delivery(self.store, self.calibration_stages(), self.search_stages())


def opened_for_ranking(settings: Settings, folder: Path) -> SensitivityInputs:
    """What sensitivity metrics are given by the run in `folder`, which is only read."""
    run = Run(settings, folder, SilentObserver(), command=None)
    return run.store[run.ranking_stages().inputs]
