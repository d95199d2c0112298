"""The device half on its own: from a run folder that was searched elsewhere, without model file or data."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store
from trt_mpq.dataset import open_samples
from trt_mpq.engine.deploy import Judge
from trt_mpq.engine.handover import DESCRIBED, GIVEN, SEARCHED
from trt_mpq.errors import DataError, MetricError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.latency.device_table import DeviceTable
from trt_mpq.model import load_graph
from trt_mpq.pipeline.device import Device
from trt_mpq.pipeline.sources import RUNTIME
from trt_mpq.pipeline.workers import Errand, Returned
from trt_mpq.settings import Settings
from trt_mpq.types.engine import Deployment, Platform
from trt_mpq.types.observer import Observer, SilentObserver


class DeviceRun:
    """A run folder at work on this machine's GPU.

    Args:
        settings: The stored settings of the run, with what the user changed.
        folder: The run folder.
        observer: Told what happens.
        locked: Whether to hold the folder; not on an errand, for whoever sent it does.

    Raises:
        RunFolderError: The folder cannot be used, or another process works on it.
    """

    def __init__(self, settings: Settings, folder: Path, observer: Observer, *, locked: bool = True) -> None:
        self._store = Store(folder, settings, observer, locked=locked, given=GIVEN)
        self._device = Device(self._store, DESCRIBED)

    def platform(self) -> Platform:
        """This machine; raises RuntimeFailure or MissingDependencyError if no engine can be built on it."""
        return self._device.require()

    def measure(self) -> DeviceTable:
        """Measure what every group costs here; raises RuntimeFailure or MissingDependencyError without a GPU."""
        return self._device.measure()

    def ship(self, *, evaluate: bool) -> Deployment:
        """Build, time and verify the engine.

        Args:
            evaluate: Whether the evaluation data must be there; otherwise it is used if it is.

        Raises:
            RunFolderError: The folder holds no searched run.
            RuntimeFailure: There is no GPU.
            MissingDependencyError: TensorRT or pycuda is absent.
            DataError: The evaluation data is needed and cannot be used.
        """
        self._device.require()
        try:
            judge = self._judge()
        except (DataError, MetricError) as error:
            if evaluate:
                raise
            self._store.observer.note(f"the task score is not measured through the engine: {error}")
            judge = None
        deployment = self._device.deployment(SEARCHED, Stage("judge", lambda job: judge))
        assert deployment is not None  # there is a GPU
        return deployment

    def _judge(self) -> Judge | None:
        settings, described, searched = self._store.settings, self._store[DESCRIBED], self._store[SEARCHED]
        if settings.eval is None:
            return None
        samples = open_samples(settings.eval, described.original.inputs)
        if settings.eval_samples is not None:
            samples = samples.take(settings.eval_samples)
        metric = metric_from_name(
            searched.metric,
            has_labels=samples.has_labels,
            outputs=described.original.outputs,
            rows_per_sample=samples.rows,
        )
        fp32 = load_graph(self._store.folder / described.original.path)
        return Scorer(fp32, self._store[RUNTIME], samples, metric, described.batch).score_session


def run_errand(settings: Settings, folder: Path, errand: Errand) -> Returned:
    """Do what a machine without a GPU asks for; it leads the run in `folder`, and holds it."""
    observer = _Notes()
    run = DeviceRun(settings, folder, observer, locked=False)
    if errand is Errand.PLATFORM:
        return Returned(run.platform(), tuple(observer.taken))
    value = run.measure() if errand is Errand.MEASURE else run.ship(evaluate=False)
    return Returned(value, tuple(observer.taken))


class _Notes(SilentObserver):
    """Keeps the notes for whoever sent the errand."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def note(self, text: str) -> None:
        self.taken.append(text)
