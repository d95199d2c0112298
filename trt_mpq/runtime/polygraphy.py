"""Polygraphy: runs two models on the same inputs and compares what comes out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_mpq.errors import RuntimeFailure
from trt_mpq.graph.onnx_api import first_line
from trt_mpq.runtime.base import Array, Arrays, Session
from trt_mpq.runtime.onnxruntime import OnnxRuntime

_REFERENCE, _TESTED = "fp32", "tested"


@dataclass(frozen=True)
class _Comparison:
    """A compare function of Polygraphy, and what it says of one output.

    Attributes:
        function: Name of its class.
        figure: The field of its result.
        harm: That figure as a number that grows with the difference, from 0 for none.
    """

    function: str
    figure: str
    harm: Callable[[float], float] = float


def _noise(decibels: float) -> float:
    """Decibels as the noise-to-signal ratio, which unlike them adds up over independent errors."""
    return float(10 ** (-decibels / 10))


_COMPARISONS = {
    "snr": _Comparison("SnrCompareFunc", "snr", _noise),
    "psnr": _Comparison("PsnrCompareFunc", "psnr", _noise),
    "cosine": _Comparison("CosineSimilarityCompareFunc", "cosine_similarity", lambda cosine: 1 - cosine),
    "l2": _Comparison("L2CompareFunc", "l2_norm"),
    "max-abs": _Comparison("SimpleCompareFunc", "max_absdiff"),
    "mean-abs": _Comparison("SimpleCompareFunc", "mean_absdiff"),
    "median-abs": _Comparison("SimpleCompareFunc", "median_absdiff"),
}
COMPARE_FUNCTIONS = tuple(_COMPARISONS)
"""What outputs can be compared by."""


def run_both(
    reference: Path, tested: Path | Session, feeds: Sequence[Mapping[str, Array]], outputs: Sequence[str] = ()
) -> tuple[tuple[Arrays, ...], tuple[Arrays, ...]]:
    """Outputs of both models for the same inputs, one entry per batch, run by Polygraphy's comparator.

    Args:
        reference: The FP32 model, which runs in ONNX Runtime.
        tested: What to judge: an ONNX file, which runs in ONNX Runtime too, or a session of another runtime.
        feeds: One mapping of input name to array per batch.
        outputs: Tensors that files compute in place of their outputs.

    Raises:
        RuntimeFailure: A model could not be loaded or run.
    """
    from polygraphy.comparator import Comparator

    if isinstance(tested, Path):
        judged = _file_runner(tested, _TESTED, outputs)
    else:
        judged = _session_runner(tested, _TESTED, feeds[0])
    runners = [_file_runner(reference, _REFERENCE, outputs), judged]
    with _in_silence():
        try:
            results = Comparator.run(runners, data_loader=[dict(feed) for feed in feeds])
        except Exception as error:  # what Polygraphy and ONNX Runtime raise has no common base
            what = tested.name if isinstance(tested, Path) else "the engine"
            raise RuntimeFailure(
                f"Polygraphy could not compare {reference.name} with {what}: {first_line(error)}"
            ) from error
    return _arrays(results[_REFERENCE]), _arrays(results[_TESTED])


def have_enough_snr(reference: Arrays, tested: Arrays, least_db: Mapping[str, float]) -> dict[str, bool]:
    """Whether the signal-to-noise ratio of every output is at least what `least_db` asks of it, in decibels.

    An output that is all zero in `reference` has enough only if it is so in `tested` too.
    """
    from polygraphy.comparator import SnrCompareFunc

    (found,) = _compared([reference], [tested], SnrCompareFunc(dict(least_db)))
    return {name: bool(result) for name, result in found.items()}


def differences(reference: Sequence[Arrays], tested: Sequence[Arrays], compare_function: str) -> list[float]:
    """How far each of `tested` is from its `reference`, by one of `COMPARE_FUNCTIONS`, averaged over the outputs.

    Args:
        reference: Outputs by name, one entry per sample.
        tested: The same outputs for the same samples.
        compare_function: L2 norm and absolute errors as they are; SNR and PSNR as the noise-to-signal ratios that
            they are decibels of; cosine as its distance from 1. So each is 0 for equal outputs and grows with the
            difference.
    """
    from polygraphy import comparator

    by = _COMPARISONS[compare_function]
    found = _compared(reference, tested, getattr(comparator, by.function)())
    return [float(np.mean([by.harm(float(getattr(one, by.figure))) for one in own.values()])) for own in found]


def _compared(reference: Sequence[Arrays], tested: Sequence[Arrays], function: Any) -> list[Mapping[str, Any]]:
    """What Polygraphy's comparator finds with `function`, per entry and output."""
    from polygraphy.comparator import Comparator, IterationResult, RunResults

    named = {_REFERENCE: reference, _TESTED: tested}
    with _in_silence():
        runs = RunResults([(name, [IterationResult(own, 0.0, name) for own in all_]) for name, all_ in named.items()])
        (found,) = Comparator.compare_accuracy(runs, compare_func=function)
    iterations: list[Mapping[str, Any]] = found[_REFERENCE, _TESTED]
    return iterations


@contextmanager
def _in_silence() -> Iterator[None]:
    """Polygraphy says nothing; critical messages are raised too."""
    from polygraphy.logger import G_LOGGER

    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), _torch_left_out():
        yield


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


def _file_runner(path: Path, name: str, outputs: Sequence[str]) -> Any:
    from polygraphy.backend.onnxrt import OnnxrtRunner

    return OnnxrtRunner(lambda: OnnxRuntime().load(path, outputs).native, name=name)


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
