"""The device half on its own: from a run folder that was searched elsewhere, without model file or data."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.artifacts.store import Store
from trt_mpq.engine.handover import DESCRIBED, GIVEN, SEARCHED
from trt_mpq.errors import DataError, MetricError
from trt_mpq.latency.device_table import DeviceTable
from trt_mpq.pipeline.bisection import BisectionRecord, bisection_of
from trt_mpq.pipeline.deployment import deployment, require_comparison
from trt_mpq.pipeline.engine_scoring import DEVICE_ENGINE_SCORER, NO_ENGINE_SCORER
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.latency import measure_latency
from trt_mpq.pipeline.remote import RemoteResult, RemoteTask
from trt_mpq.pipeline.shipping import compiled_engine
from trt_mpq.settings import Settings
from trt_mpq.types import Observer, SilentObserver
from trt_mpq.types.compilation import Compilation
from trt_mpq.types.engine import Deployment, Platform


class DeviceRun:
    """A run folder at work on this machine's GPU.

    Args:
        settings: The stored settings of the run, with what the user changed.
        folder: The run folder.
        observer: Told what happens.
        locked: Whether to hold the folder; not in a remote task, for whoever sent it does.

    Raises:
        RunFolderError: The folder cannot be used, or another process works on it.
    """

    def __init__(self, settings: Settings, folder: Path, observer: Observer, *, locked: bool = True) -> None:
        self._store = Store(folder, settings, observer, locked=locked, given=GIVEN)
        self._gpu = Gpu(self._store)

    def platform(self) -> Platform:
        """This machine; raises RuntimeFailure or MissingDependencyError if no engine can be built on it."""
        return self._gpu.require()

    def measure(self) -> DeviceTable:
        """Measure what every group costs here; raises RuntimeFailure or MissingDependencyError without a GPU."""
        return measure_latency(self._store, DESCRIBED, self._gpu)

    def bisect(self) -> BisectionRecord:
        """Whose fault it is if the engine of the plan computes something else than its reference.

        Raises:
            RunFolderError: The folder holds no searched run.
            RuntimeFailure: There is no GPU, or TensorRT refuses a part of the plan.
            MissingDependencyError: TensorRT or pycuda is absent.
        """
        self._gpu.require()
        return self._store[bisection_of(DESCRIBED, SEARCHED, self._gpu.stage)]

    def ship(self, *, evaluate: bool) -> Deployment | Compilation:
        """Build, time and verify the engine; without a GPU, compile it if NVIDIA's compiler is here.

        Args:
            evaluate: Whether the evaluation data must be there; otherwise it is used if it is.

        Raises:
            RunFolderError: The folder holds no searched run.
            RuntimeFailure: There is no GPU, and the compiler is not here or does not serve the device of the run.
            MissingDependencyError: TensorRT or pycuda is absent, and so is the compiler.
            DataError: The evaluation data is needed and cannot be used.
            ComparisonFailed: An output of the engine fails the comparison, and that is required.
        """
        if self._gpu.find() is None:
            return compiled_engine(self._store, self._gpu)
        scorer = DEVICE_ENGINE_SCORER
        try:
            self._store.ensure(scorer)
        except (DataError, MetricError) as error:
            if evaluate:
                raise
            self._store.observer.note(f"the task score is not measured through the engine: {error}")
            scorer = NO_ENGINE_SCORER
        done = deployment(self._store, DESCRIBED, SEARCHED, self._gpu, scorer)
        assert done is not None  # there is a GPU
        require_comparison(self._store.settings, done)
        return done


def run_remote_task(settings: Settings, folder: Path, task: RemoteTask) -> RemoteResult:
    """Do what a machine without a GPU asks for; it leads the run in `folder`, and holds it."""
    observer = _Notes()
    run = DeviceRun(settings, folder, observer, locked=False)
    if task is RemoteTask.PLATFORM:
        return RemoteResult(run.platform(), tuple(observer.taken))
    value = run.measure() if task is RemoteTask.MEASURE else run.ship(evaluate=False)
    return RemoteResult(value, tuple(observer.taken))


class _Notes(SilentObserver):
    """Keeps the notes for whoever sent the task."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def note(self, text: str) -> None:
        self.taken.append(text)
