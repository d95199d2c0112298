"""What a run starts from: data, runtime, metric and device, opened from the settings on first use."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trt_mpq import __version__
from trt_mpq.artifacts.storage import sha256_of
from trt_mpq.calibrate.histogram import METHODS
from trt_mpq.dataset import Samples, open_samples
from trt_mpq.dataset.chunks import fixed_batch
from trt_mpq.errors import DataError, SettingsError
from trt_mpq.evaluate.losses import Loss, loss_for
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.latency.target import target_from_name
from trt_mpq.runtime.base import Runtime
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.search import FOR_ACCURACY_ONLY, SEARCHES, Search, search_from_name
from trt_mpq.sensitivity import SensitivityMetric
from trt_mpq.sensitivity import metric_from_name as sensitivity_from_name
from trt_mpq.sensitivity.agreement import REFERENCE
from trt_mpq.sensitivity.hessian import HessianTrace
from trt_mpq.sensitivity.noise import GaussianNoise
from trt_mpq.settings import Settings
from trt_mpq.types import Grouping, Model, Precision, Target

_RECORDED_PACKAGES = (
    "onnx", "onnx-ir", "onnxruntime", "polygraphy", "numpy", "scipy", "ml-dtypes", "torch", "transformers", "tensorrt",
    "pycuda",
)  # fmt: skip


class Choices:
    """What the settings name: device, search, metric. Unknown names are refused here, before any work.

    Args:
        settings: What the user asked for.

    Raises:
        SettingsError: A name is unknown, or the device cannot compute in a precision of the ladder.
    """

    def __init__(self, settings: Settings) -> None:
        self.target: Target = target_from_name(settings.device)
        self.algorithm: Search = search_from_name(settings.search)
        _require_goal(settings)
        self.sensitivity, *others = (_sensitivity(name, settings) for name in settings.sensitivity)
        self.compared: tuple[SensitivityMetric, ...] = _with_reference(self.sensitivity, others)
        self.runtime: Runtime = OnnxRuntime(settings.threads)
        _require_arithmetic(self.target, settings.precisions)
        self._top = settings.top
        for method in settings.calibration:
            if method not in METHODS:
                raise SettingsError(f"unknown calibration {method!r}: choose from {', '.join(METHODS)}")

    @property
    def refuge(self) -> Precision:
        """What runs instead of FP16 where that overflows: BF16 if the device has it, else FP32, as beside BF16."""
        bf16 = self._top is Precision.FP16 and self.target.supports(Precision.BF16)
        return Precision.BF16 if bf16 else Precision.FP32

    def in_high_precision(self, grouping: Grouping) -> Grouping:
        """`grouping`, told what runs that is not in 8 bit."""
        return replace(grouping, top=self._top, refuge=self.refuge)


class Data:
    """The calibration and evaluation data of a model, opened when first used, and what follows from them.

    Args:
        settings: What the user asked for.
        model: The prepared model.
    """

    def __init__(self, settings: Settings, model: Model) -> None:
        self._settings, self._model = settings, model

    @cached_property
    def calibration(self) -> Samples:
        """The calibration data, one row of the model's batch per sample.

        Raises:
            DataError: None was given, or it does not fit the model.
        """
        return _limited(self._calibration.single_rows(), self._settings.calib_samples)

    @cached_property
    def evaluation(self) -> Samples:
        """The evaluation data; without any, the calibration data.

        Raises:
            DataError: There is neither, it does not fit the model, or a sample is more rows than a batch.
        """
        if self._settings.eval is None:
            found = _limited(self._calibration, self._settings.calib_samples)
        else:
            found = _limited(open_samples(self._settings.eval, self._model.inputs), self._settings.eval_samples)
        if found.rows > self.batch:
            raise DataError(
                f"{found.source}: a sample is {found.rows} rows and a batch {self.batch}: pass --batch {found.rows} or "
                "more"
            )
        return found

    @cached_property
    def _calibration(self) -> Samples:
        if self._settings.calib is None:
            raise DataError("no calibration data: pass --calib with an .npz, an .npy or a recipe")
        return open_samples(self._settings.calib, self._model.inputs)

    @property
    def batch(self) -> int:
        """Rows per inference: what was asked for, or what the model fixes.

        It is what an engine gets at once, and what latencies are for. Where a sample is several rows, fewer samples
        are evaluated at a time.
        """
        return fixed_batch(self._model.inputs) or self._settings.batch

    @property
    def counted_batches(self) -> int:
        """How many times `batch` holds the rows that group counts hold for: one, or what the model fixes."""
        return 1 if fixed_batch(self._model.inputs) else self.batch

    @cached_property
    def metric(self) -> TaskMetric:
        """The task metric."""
        data = self.evaluation
        return metric_from_name(
            self._settings.metric, has_labels=data.has_labels, outputs=self._model.outputs, rows_per_sample=data.rows
        )

    @property
    def metric_identity(self) -> str:
        """What tells this metric from others: its name, and for the user's own the content of its module's file."""
        name = self.metric.name
        module = sys.modules.get(name.partition(":")[0]) if ":" in name else None
        file = getattr(module, "__file__", None)
        return name if file is None else f"{name} {sha256_of(Path(file))}"

    @cached_property
    def loss(self) -> Loss:
        """What the sensitivity metrics measure on the calibration data."""
        return loss_for(has_labels=self.calibration.has_labels, classification=self.metric.of_classes)

    @cached_property
    def sample_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row per input as the data stores it, batch dimension 1, or what the model fixes."""
        declared = {spec.name: spec.shape for spec in self._model.inputs}
        if all(isinstance(size, int) for shape in declared.values() for size in shape[1:]):
            return {name: tuple(n if isinstance(n, int) else 1 for n in shape) for name, shape in declared.items()}
        sample = next(self.calibration.batches(1)).feeds
        return {
            name: tuple(n if isinstance(n, int) else given for n, given in zip(shape, sample[name].shape, strict=True))
            for name, shape in declared.items()
        }

    def notes(self) -> tuple[str, ...]:
        """What the user should know about the data."""
        notes = list(dict.fromkeys((*self.calibration.notes, *self.evaluation.notes)))
        if self._settings.eval is None:
            notes.append("no --eval was given: plans are judged on the calibration data, which flatters them")
        return tuple(notes)


def _sensitivity(name: str, settings: Settings) -> SensitivityMetric:
    metric = sensitivity_from_name(name)
    if isinstance(metric, GaussianNoise):
        return replace(metric, amplitude=settings.noise_amplitude, trials=settings.trials or metric.trials)
    if isinstance(metric, HessianTrace):
        return replace(metric, trials=settings.trials or metric.trials)
    return metric


def _with_reference(first: SensitivityMetric, others: list[SensitivityMetric]) -> tuple[SensitivityMetric, ...]:
    """`others`, and what metrics are compared with if it is not among them; nothing if `first` stands alone."""
    if not others or REFERENCE in (first.name, *(metric.name for metric in others)):
        return tuple(others)
    return (*others, sensitivity_from_name(REFERENCE))


def environment() -> dict[str, str]:
    """Versions of everything that can change a result."""
    found = {"trt-mpq": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _limited(samples: Samples, count: int | None) -> Samples:
    return samples if count is None else samples.take(count)


def _require_goal(settings: Settings) -> None:
    if settings.search in FOR_ACCURACY_ONLY and (settings.target_latency or settings.target_size):
        others = ", ".join(name for name in SEARCHES if name not in FOR_ACCURACY_ONLY)
        raise SettingsError(f"--search {settings.search} knows no target but accuracy: choose one of {others}")


def _require_arithmetic(target: Target, precisions: tuple[Precision, ...]) -> None:
    for precision in precisions:
        if precision.deployable and not target.supports(precision):
            raise SettingsError(f"{target.name} has no {precision} arithmetic: leave {precision} out of --precisions")
