"""Sensitivity metrics: which groups suffer least from a lower precision. One file per metric."""

from __future__ import annotations

from trt_mpq.errors import SettingsError
from trt_mpq.sensitivity.agreement import Sensitivities
from trt_mpq.sensitivity.base import SensitivityInputs, SensitivityMetric
from trt_mpq.sensitivity.dependency import InterLayerDependency
from trt_mpq.sensitivity.fisher import FisherError
from trt_mpq.sensitivity.hessian import HessianTrace
from trt_mpq.sensitivity.noise import GaussianNoise
from trt_mpq.sensitivity.output_difference import OutputDifference
from trt_mpq.sensitivity.output_sqnr import OutputSqnr
from trt_mpq.sensitivity.quantization_error import QuantizationError
from trt_mpq.sensitivity.random_order import RandomOrder
from trt_mpq.sensitivity.task_loss import TaskLoss

__all__ = ["METRICS", "Sensitivities", "SensitivityInputs", "SensitivityMetric", "metric_from_name"]

_ALL = (
    QuantizationError, GaussianNoise, HessianTrace, FisherError, OutputSqnr, OutputDifference, TaskLoss,
    InterLayerDependency, RandomOrder,
)  # fmt: skip

METRICS: dict[str, type[SensitivityMetric]] = {metric.name: metric for metric in _ALL}


def metric_from_name(name: str) -> SensitivityMetric:
    """The metric called `name`, with default parameters; raises SettingsError listing the names."""
    if name not in METRICS:
        raise SettingsError(f"unknown sensitivity metric {name!r}: choose one of {', '.join(METRICS)}")
    return METRICS[name]()
