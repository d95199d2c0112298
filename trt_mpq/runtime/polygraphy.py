"""Polygraphy: runs two models on the same inputs and compares what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_mpq.errors import RuntimeFailure
from trt_mpq.onnx_api import first_line
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.onnxruntime import inference_session


@dataclass(frozen=True)
class ComparedRuns:
    """Outputs of both models, one entry per batch, and Polygraphy's verdict per output."""

    reference: tuple[Arrays, ...]
    tested: tuple[Arrays, ...]
    passed: Mapping[str, bool]


def compare_runs(
    reference: Path, tested: Path, feeds: Sequence[Mapping[str, Array]], absolute: float, relative: float
) -> ComparedRuns:
    """Run both ONNX files in ONNX Runtime under Polygraphy's comparator.

    Args:
        reference: The FP32 model.
        tested: The model to judge.
        feeds: One mapping of input name to array per batch.
        absolute: Absolute tolerance on the median error of an output.
        relative: Relative tolerance on the median error of an output.

    Raises:
        RuntimeFailure: A model could not be loaded or run.
    """
    from polygraphy.backend.onnxrt import OnnxrtRunner
    from polygraphy.comparator import Comparator, SimpleCompareFunc
    from polygraphy.logger import G_LOGGER

    runners = [OnnxrtRunner(_session(path), name=name) for path, name in ((reference, "fp32"), (tested, "typed"))]
    close = SimpleCompareFunc(atol=absolute, rtol=relative, check_error_stat="median")
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):  # critical messages are raised too
        try:
            results = Comparator.run(runners, data_loader=[dict(feed) for feed in feeds])
            verdicts = Comparator.compare_accuracy(results, compare_func=close)
        except Exception as error:  # what Polygraphy and ONNX Runtime raise has no common base
            raise RuntimeFailure(
                f"Polygraphy could not compare {reference.name} with {tested.name}: {first_line(error)}"
            ) from error
    iterations = [iteration for verdict in verdicts for pairs in verdict.values() for iteration in pairs]
    return ComparedRuns(
        reference=_arrays(results["fp32"]),
        tested=_arrays(results["typed"]),
        passed={name: all(bool(iteration[name]) for iteration in iterations) for name in iterations[0]},
    )


def _session(path: Path) -> Callable[[], Any]:
    return lambda: inference_session(str(path))


def _arrays(results: Any) -> tuple[Arrays, ...]:
    return tuple({name: np.asarray(iteration[name]) for name in iteration} for iteration in results)
