"""The user's own task metric, `module:function`: import it, call it once, distrust what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics.base import TaskMetric, score_from_samples
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.user_code import UserCodeError, UserCodeTooSlow, import_user_function, running_user_code
from trt_mpq.types import Score

_UserFunction = Callable[[Arrays, Array | None], Any]
"""Takes all outputs (name to [n, ...]) and labels ([n, ...] or None); returns scores [n] or one number."""


class _GatheringAccumulator:
    """Keeps all outputs, because the user's function sees them together."""

    numbers = None

    def __init__(self, name: str, function: _UserFunction, limit_s: float | None) -> None:
        self._name = name
        self._function = function
        self._limit_s = limit_s
        self._outputs: list[Arrays] = []
        self._labels: list[Array] = []

    def add(self, outputs: Arrays, labels: Array | None, reference: Arrays | None) -> None:
        """Keep a batch; `reference` is not used."""
        self._outputs.append(dict(outputs))
        if labels is not None:
            self._labels.append(labels)

    def result(self, order: NDArray[np.intp] | None = None) -> Score:
        """Call the user's function; raises MetricError if it raises or returns no score.

        `order` is not used: the user's function sees the samples as they were added, in the order of the data.
        """
        if not self._outputs:
            raise MetricError(f"metric {self._name} has no sample to score: provide evaluation data")
        outputs = {name: self._joined(name) for name in self._outputs[0]}
        labels = np.concatenate(self._labels) if self._labels else None
        samples = len(next(iter(outputs.values())) if labels is None else labels)
        try:
            with running_user_code(self._limit_s):  # what is returned may be an object of the user's own class
                return _score_from_user(self._function(outputs, labels), samples, self._name)
        except UserCodeTooSlow as error:
            raise MetricError(f"metric {self._name} {error}: raise --metric-timeout, or make it faster") from error
        except UserCodeError as error:
            raise MetricError(f"metric {self._name} {error}") from error

    def _joined(self, name: str) -> Array:
        try:
            return np.concatenate([np.atleast_1d(part[name]) for part in self._outputs])
        except ValueError as error:
            raise MetricError(
                f"metric {self._name} is given the outputs of all samples at once, and the size of {name!r} depends on "
                "the data: name the tensors that it needs with --outputs"
            ) from error


def user_metric(name: str, function: _UserFunction, limit_s: float | None = None) -> TaskMetric:
    """The metric that is what `function` returns for all samples at once, in the order of the data.

    A call that takes longer than `limit_s` seconds is an error.
    """
    return TaskMetric(name, False, False, lambda: _GatheringAccumulator(name, function, limit_s), in_order=True)


def import_function(name: str) -> _UserFunction:
    """The function called `name`, as `module:function`, also looked for in the current directory.

    Raises:
        MetricError: It cannot be imported or is no function.
    """
    try:
        return import_user_function(name, "of outputs and labels")
    except UserCodeError as error:
        raise MetricError(f"metric {name} {error}") from error


def _score_from_user(result: Any, samples: int, metric: str) -> Score:
    """The score of what the user's function returned for `samples` samples; raises MetricError."""
    try:
        values = np.asarray(result)
    except Exception as error:  # ragged lists, or an object with a broken __array__
        raise MetricError(f"metric {metric} returned a {type(result).__name__} that is no array: {error}") from error
    if values.dtype.kind not in "fiub" or values.shape not in ((), (samples,)):
        found = repr(result)[:60] if values.dtype.kind not in "fiub" else f"an array of shape {values.shape}"
        raise MetricError(f"metric {metric} returned {found}: it must return one number or {samples}, one per sample")
    scores = values.astype(np.float64)
    if not np.isfinite(scores).all():
        raise MetricError(f"metric {metric} returned NaN or inf: every score must be a finite number")
    return score_from_samples(scores) if scores.ndim else Score(float(scores), None, samples)
