"""The user's own task metric, `module:function`: import it, call it once, distrust what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics.base import TaskMetric, score_from_samples
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.user_code import import_reference, importable_current_folder
from trt_mpq.types import Score

_UserFunction = Callable[[Arrays, Array | None], Any]
"""Takes all outputs (name to [n, ...]) and labels ([n, ...] or None); returns scores [n] or one number."""


class _GatheringAccumulator:
    """Keeps all outputs, because the user's function sees them together."""

    numbers = None

    def __init__(self, name: str, function: _UserFunction) -> None:
        self._name = name
        self._function = function
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
        outputs = {name: np.concatenate([part[name] for part in self._outputs]) for name in self._outputs[0]}
        labels = np.concatenate(self._labels) if self._labels else None
        samples = len(next(iter(outputs.values())))
        return _score_from_user(self._call(outputs, labels), samples, self._name)

    def _call(self, outputs: Arrays, labels: Array | None) -> Any:
        try:
            with importable_current_folder():
                return self._function(outputs, labels)
        except Exception as error:  # the user's code may raise anything
            raise MetricError(f"metric {self._name} raised {type(error).__name__}: {error}") from error


def user_metric(name: str, function: _UserFunction) -> TaskMetric:
    """The metric that is what `function` returns for all samples at once, in the order of the data."""
    return TaskMetric(name, False, False, lambda: _GatheringAccumulator(name, function), in_order=True)


def import_function(name: str) -> _UserFunction:
    """The function called `name`, as `module:function`, also looked for in the current directory.

    Raises:
        MetricError: It cannot be imported or is no function.
    """
    try:
        function = import_reference(name)
    except Exception as error:  # the user's module may raise anything while it is imported
        raise MetricError(
            f"metric {name} cannot be imported ({type(error).__name__}: {error}): it must be module:function, found on "
            "the Python path or in the current directory"
        ) from error
    if not callable(function):
        raise MetricError(
            f"metric {name} is of type {type(function).__name__}: it must be a function of outputs and labels"
        )
    return function  # type: ignore[no-any-return]


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
