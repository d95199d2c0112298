"""Output difference: what Polygraphy finds between the outputs of FP32 and of the network with one group lowered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trt_mpq.dataset.chunks import chunks
from trt_mpq.errors import SettingsError
from trt_mpq.evaluate.losses import Loss
from trt_mpq.runtime.base import Array
from trt_mpq.runtime.polygraphy import COMPARE_FUNCTIONS, differences
from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.sensitivity.lowering import Growth, Lowered, loss_growths, one_by_one, with_enough_outputs
from trt_mpq.types import Precision, PrecisionPlan, Progress, Ranking


@dataclass(frozen=True)
class OutputDifference:
    """Score = mean over samples of Polygraphy's comparison with FP32, with this group alone lowered.

    Polygraphy's comparator judges every sample and every output with one of its compare functions; a network with
    several outputs has the mean of theirs. Scores grow with the difference, see `runtime.polygraphy.differences`.

    Args:
        compare_function: What outputs are compared by, one of `COMPARE_FUNCTIONS`.
        compare_runner: What runs the lowered network: "onnxruntime", or "tensorrt", an engine per group and precision
            on this machine's GPU. FP32 runs in ONNX Runtime.
    """

    compare_function: str = "snr"
    compare_runner: str = "onnxruntime"

    name: ClassVar[str] = "output-difference"

    def __post_init__(self) -> None:
        if self.compare_function not in COMPARE_FUNCTIONS:
            raise SettingsError(
                f"unknown compare_function {self.compare_function!r}: choose one of {', '.join(COMPARE_FUNCTIONS)}"
            )
        if self.compare_runner not in _RUNNERS:
            raise SettingsError(f"unknown compare_runner {self.compare_runner!r}: choose one of {', '.join(_RUNNERS)}")

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Run the samples once per group and allowed precision, and once with none lowered."""
        growths, enough = partial(_RUNNERS[self.compare_runner], self.compare_function), with_enough_outputs(inputs)
        here = enough if self.compare_runner == "onnxruntime" else replace(enough, distribute=None)
        return one_by_one(self.name, here, progress, growths)


def _differences(compare_function: str, inputs: SensitivityInputs) -> Callable[[Lowered], Growth]:
    loss = Loss(compare_function, partial(_per_sample, compare_function))
    return loss_growths(replace(with_enough_outputs(inputs), loss=loss))


def _differences_of_engines(compare_function: str, inputs: SensitivityInputs) -> Callable[[Lowered], Growth]:
    """The same through engines, one per question; every other group is in FP32 there too."""
    assert inputs.engines is not None
    engines, emitter = inputs.engines, inputs.network.emitter()
    wide = PrecisionPlan.uniform(inputs.network.grouping.groups, Precision.FP32, Precision.FP32)
    portions = list(chunks(inputs.samples.take(inputs.sample_count), inputs.batch))
    fp32 = inputs.runtime.load(inputs.network.graph)
    exact = [chunk.run(fp32) for chunk in portions]

    def growth(lowered: Lowered) -> Growth:
        ids, precision = lowered
        with engines.session(emitter, wide.replace(dict.fromkeys(ids, precision))) as engine:
            found = [
                _per_sample(compare_function, {name: given[name] for name in known if name in given}, None, known)
                for known, given in ((known, chunk.run(engine)) for known, chunk in zip(exact, portions, strict=True))
            ]
        mean = float(np.mean(np.concatenate(found)))
        return Growth(math.inf if math.isnan(mean) else mean, 1.0)

    return growth


_RUNNERS = {"onnxruntime": _differences, "tensorrt": _differences_of_engines}


def _per_sample(
    compare_function: str, outputs: Mapping[str, Array], labels: Array | None, reference: Mapping[str, Array] | None
) -> NDArray[np.float64]:
    assert reference is not None
    return np.array(differences(_rows(reference), _rows(outputs), compare_function))


def _rows(outputs: Mapping[str, Array]) -> list[dict[str, Array]]:
    """The outputs of every sample, in double precision, so that small differences of large values are not lost."""
    count = len(next(iter(outputs.values())))
    wide = {name: value.astype(np.float64) for name, value in outputs.items()}
    return [{name: value[number] for name, value in wide.items()} for number in range(count)]
