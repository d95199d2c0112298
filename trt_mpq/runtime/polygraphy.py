"""Polygraphy: runs two models on the same inputs and compares what comes out."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_mpq.errors import RuntimeFailure
from trt_mpq.graph.onnx_api import first_line
from trt_mpq.runtime.base import Array, Arrays, Session
from trt_mpq.runtime.onnxruntime import OnnxRuntime


@dataclass(frozen=True)
class ComparedRuns:
    """Outputs of both models, one entry per batch, and Polygraphy's verdict per output."""

    reference: tuple[Arrays, ...]
    tested: tuple[Arrays, ...]
    passed: Mapping[str, bool]


def compare_runs(
    reference: Path, tested: Path | Session, feeds: Sequence[Mapping[str, Array]], absolute: float, relative: float
) -> ComparedRuns:
    """Run both on the same inputs under Polygraphy's comparator.

    Args:
        reference: The FP32 model, which runs in ONNX Runtime.
        tested: What to judge: an ONNX file, which runs in ONNX Runtime too, or a session of another runtime.
        feeds: One mapping of input name to array per batch.
        absolute: Absolute tolerance on the median error of an output.
        relative: Relative tolerance on the median error of an output.

    Raises:
        RuntimeFailure: A model could not be loaded or run.
    """
    from polygraphy.comparator import Comparator, SimpleCompareFunc
    from polygraphy.logger import G_LOGGER

    judged = _file_runner(tested, "tested") if isinstance(tested, Path) else _session_runner(tested, "tested", feeds[0])
    runners = [_file_runner(reference, "fp32"), judged]
    close = SimpleCompareFunc(atol=absolute, rtol=relative, check_error_stat="median")
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), _torch_left_out():  # critical messages are raised too
        try:
            results = Comparator.run(runners, data_loader=[dict(feed) for feed in feeds])
            verdicts = Comparator.compare_accuracy(results, compare_func=close)
            iterations = [iteration for verdict in verdicts for pairs in verdict.values() for iteration in pairs]
            passed = {name: all(bool(iteration[name]) for iteration in iterations) for name in iterations[0]}
        except Exception as error:  # what Polygraphy and ONNX Runtime raise has no common base
            what = tested.name if isinstance(tested, Path) else "the engine"
            raise RuntimeFailure(
                f"Polygraphy could not compare {reference.name} with {what}: {first_line(error)}"
            ) from error
    return ComparedRuns(_arrays(results["fp32"]), _arrays(results["tested"]), passed)


@contextmanager
def _torch_left_out() -> Iterator[None]:
    """Where torch is not loaded, no array is a tensor of it: Polygraphy would import it, for seconds, to see that."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to say that it cannot be imported
    try:
        yield
    finally:
        del sys.modules["torch"]


def _file_runner(path: Path, name: str) -> Any:
    from polygraphy.backend.onnxrt import OnnxrtRunner

    return OnnxrtRunner(lambda: OnnxRuntime().load(path).native, name=name)


def _session_runner(session: Session, name: str, example: Mapping[str, Array]) -> Any:
    """A Polygraphy runner for a session that is loaded already, takes feeds like `example` and is closed by its owner.

    Polygraphy's own TensorRT runner would hold a second engine and a second CUDA context on the device.
    """
    from polygraphy.backend.base import BaseRunner
    from polygraphy.common import TensorMetadata

    class SessionRunner(BaseRunner):  # type: ignore[misc]
        def get_input_metadata_impl(self) -> Any:
            metadata = TensorMetadata()
            for input_name, value in example.items():
                metadata.add(input_name, dtype=value.dtype, shape=(None,) * value.ndim)
            return metadata

        def infer_impl(self, feed_dict: Mapping[str, Array]) -> Arrays:
            started = time.perf_counter()
            outputs = session.run(feed_dict)
            self.inference_time = time.perf_counter() - started
            return outputs

    return SessionRunner(name)


def _arrays(results: Any) -> tuple[Arrays, ...]:
    return tuple({name: np.asarray(iteration[name]) for name in iteration} for iteration in results)
