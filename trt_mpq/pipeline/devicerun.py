"""The device half on its own: from a run folder that was searched elsewhere, without model file or data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trt_mpq.artifacts.locking import FolderLock
from trt_mpq.dataset import open_samples
from trt_mpq.engine.deploy import Judge
from trt_mpq.errors import DataError, MetricError
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.latency.device_table import DeviceTable
from trt_mpq.model import load_graph
from trt_mpq.pipeline.errands import Errand, Returned
from trt_mpq.pipeline.handover import CalibratedNetwork, Searched, read_network, read_searched
from trt_mpq.pipeline.ondevice import OnDevice
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.settings import Settings
from trt_mpq.types.engine import Deployment, Platform
from trt_mpq.types.observer import Observer, SilentObserver


class DeviceRun:
    """A run folder at work on this machine's GPU.

    Args:
        settings: The stored settings of the run, with what the user changed.
        folder: The run folder.
        observer: Told what happens.
        lock: The folder's, kept as long as this; None on an errand, for whoever sent it holds the folder.
    """

    def __init__(self, settings: Settings, folder: Path, observer: Observer, lock: FolderLock | None) -> None:
        self._settings, self._folder, self._observer, self._lock = settings, folder, observer, lock
        self._device = OnDevice(folder, settings.engine, observer)

    def platform(self) -> Platform:
        """This machine; raises RuntimeFailure or MissingDependencyError if no engine can be built on it."""
        return self._device.require()

    def measure(self) -> DeviceTable:
        """Measure what every group costs here; raises RuntimeFailure or MissingDependencyError without a GPU."""
        self._device.require()
        return self._device.measure(read_network(self._folder))

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
        described, searched = read_network(self._folder), read_searched(self._folder)
        try:
            judge = self._judge(described, searched)
        except (DataError, MetricError) as error:
            if evaluate:
                raise
            self._observer.note(f"the task score is not measured through the engine: {error}")
            judge = None
        deployment = self._device.deployment(described, searched, judge)
        assert deployment is not None  # there is a GPU
        return deployment

    def _judge(self, described: CalibratedNetwork, searched: Searched) -> Judge | None:
        if self._settings.eval is None:
            return None
        samples = open_samples(self._settings.eval, described.original.inputs)
        if self._settings.eval_samples is not None:
            samples = samples.take(self._settings.eval_samples)
        metric = metric_from_name(
            searched.metric,
            has_labels=samples.has_labels,
            outputs=described.original.outputs,
            rows_per_sample=samples.rows,
        )
        fp32 = load_graph(self._folder / described.original.path)
        return Scorer(fp32, OnnxRuntime(self._settings.threads), samples, metric, described.batch).score_session


@dataclass(frozen=True)
class Errands:
    """Opens a run folder where errands for it are run.

    Attributes:
        settings: Of the run.
        folder: The run folder, absolute.
    """

    settings: Settings
    folder: Path

    def __call__(self) -> Callable[[Errand], Returned]:
        """Ready for errands."""
        return self._run

    def _run(self, errand: Errand) -> Returned:
        notes = _Notes()
        run = DeviceRun(self.settings, self.folder, notes, lock=None)
        ways: dict[Errand, Callable[[], Platform | DeviceTable | Deployment]] = {
            Errand.PLATFORM: run.platform,
            Errand.MEASURE: run.measure,
            Errand.SHIP: lambda: run.ship(evaluate=False),
        }
        return Returned(ways[errand](), tuple(notes.taken))


class _Notes(SilentObserver):
    """Keeps the notes for whoever sent the errand."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def note(self, text: str) -> None:
        self.taken.append(text)
