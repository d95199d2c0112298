"""A run: one model on its way to a mixed-precision plan, its engine and its report."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from trt_mpq.artifacts.store import Store
from trt_mpq.pipeline.calibrated import Calibrated, calibrated, final_groups
from trt_mpq.pipeline.checks import check_settings
from trt_mpq.pipeline.delivery import Delivered, delivery
from trt_mpq.pipeline.device_run import run_remote_task
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.ranking import Rankings, rankings
from trt_mpq.pipeline.report import environment, run_report
from trt_mpq.pipeline.search import Found, search
from trt_mpq.pipeline.sources import SOURCE
from trt_mpq.pipeline.workers import OpenedRun, RunLocation, Workers
from trt_mpq.report.data import Report
from trt_mpq.sensitivity.agreement import Sensitivities
from trt_mpq.settings import Settings
from trt_mpq.types import Comparison, Grouping, Observer, PrecisionPlan, Ranges, Ranking, SearchResult, SilentObserver


def opened_by_worker(settings: Settings, folder: Path) -> OpenedRun:
    """The run in `folder`, to read from."""
    run = Run(settings, folder, SilentObserver(), command=None)
    return OpenedRun(lambda: run.store[run.rankings.inputs], lambda: run.store[run.found.evaluator])


class Run:
    """One model on its way to a mixed-precision plan.

    Args:
        settings: What the user asked for.
        folder: The run folder; created if absent.
        observer: Told what happens.
        command: The command line, for the record; None in a worker, which only reads what was done.

    Raises:
        TrtMpqError: The model or the folder cannot be used.
    """

    def __init__(self, settings: Settings, folder: Path, observer: Observer, command: str | None) -> None:
        check_settings(settings)
        self.settings, self._command = settings, command or ""
        self.store = Store(folder, settings, observer, source=SOURCE, writable=command is not None)
        if command is not None:
            self.store.describe(source=str(settings.model.resolve()), command=command, environment=environment())
        self._workers = Workers(RunLocation(settings, folder, opened_by_worker, run_remote_task))
        self._gpu = Gpu(self.store, self._workers.remote)

    # What the command line offers, in the order of the flow.

    def inspect(self) -> Grouping:
        """Prepare the model and find its groups."""
        return self.store[final_groups(self.settings)]

    def calibrate(self) -> Ranges:
        """Ranges of every tensor that a group quantizes."""
        return self.store[self.calibrated.described].ranges

    def sensitivity(self) -> Ranking:
        """Sensitivity of every group to every candidate precision, by the metric that the search uses."""
        return self.store[self.rankings.first]

    def sensitivities(self) -> Sensitivities:
        """The same by every metric that was asked for, and how well they agree."""
        return self.rankings.all(self.store)

    def search(self) -> SearchResult:
        """The fastest plan found that keeps the accuracy target."""
        return self.store[self.delivered.searched].result

    def emit(self) -> PrecisionPlan:
        """Write the chosen plan as ONNX files, and check that the written file scores as the search said."""
        self.store[self.delivered.scores]
        return self.store[self.delivered.refined.result].chosen.plan

    def compare(self) -> Comparison:
        """Polygraphy's comparison of the typed model with FP32."""
        return self.store[self.delivered.comparison]

    def report(self) -> Report:
        """Everything above and the engine, as report.json and report.html.

        Raises:
            RuntimeFailure: An engine must be built (`engine.build` is "always") and this machine cannot.
        """
        if self.settings.engine.build == "always":
            self._gpu.require()
        return run_report(self.store, self.calibrated, self.found, self.delivered, self._gpu, self._command)

    # The stages, as far as they are known: each part is put together once what it depends on was chosen.

    @cached_property
    def calibrated(self) -> Calibrated:
        """The calibrated network."""
        return calibrated(self.store)

    @cached_property
    def rankings(self) -> Rankings:
        """The rankings of its groups."""
        return rankings(self.settings, self.calibrated.scored.network, self._workers.stage)

    @cached_property
    def found(self) -> Found:
        """The search."""
        return search(self.store, self.calibrated, self.rankings, self._gpu, self._workers.stage)

    @cached_property
    def delivered(self) -> Delivered:
        """What is delivered of the plan that was found."""
        return delivery(self.store, self.calibrated, self.found)
