"""What an export is asked for, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import SettingsError
from trt_mpq.runtime.base import Array
from trt_mpq.types import TensorSpec

_AXIS = re.compile(r"(.+)=(\d+):([^\W\d]\w*)")


@dataclass(frozen=True)
class DynamicAxis:
    """Dimension `axis` of `input` is free in the exported file and called `symbol`.

    One that is not `required` becomes fixed if the module fixes it.
    """

    input: str
    axis: int
    symbol: str
    required: bool = True

    @classmethod
    def from_text(cls, text: str) -> DynamicAxis:
        """The axis in ``NAME=AXIS:SYMBOL``, such as ``input_ids=1:sequence``; raises SettingsError."""
        match = _AXIS.fullmatch(text)
        if match is None:
            raise SettingsError(f"cannot read --dynamic {text!r}: write NAME=AXIS:SYMBOL, as in input_ids=1:sequence")
        return cls(match[1], int(match[2]), match[3])


@dataclass(frozen=True)
class Tolerance:
    """How far an element of an output may be from its reference: ``rtol * max(|reference|, rms) + atol``.

    With the root mean square of the output, because what sums round away grows with all that is added, and a logit near
    zero is the sum of as many numbers as a large one.
    """

    rtol: float = 1e-4
    atol: float = 1e-4

    def __str__(self) -> str:
        return f"{self.rtol:g} * max(|torch|, its RMS) + {self.atol:g}"

    def bound(self, reference: Array) -> NDArray[np.float64]:
        """The largest absolute difference of every element of `reference`, which may hold infinities and NaN."""
        magnitude = np.nan_to_num(np.abs(reference.astype(np.float64)), nan=0.0, posinf=0.0)
        rms = np.sqrt(np.square(magnitude).mean()) if magnitude.size else 0.0
        return np.asarray(self.atol + self.rtol * np.maximum(magnitude, rms))


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        inputs: Example inputs, an `.npz`; None takes those that come with the module.
        samples: The same for a module that comes without any: the calibration data of a build.
        opset: ONNX opset of the file; TensorRT 8.6 reads up to 17.
        dynamic: Free dimensions besides the batch, which is dimension 0 of every input.
        fixed_batch: Samples per inference, if the batch is not to be free.
        output_names: Names of the outputs, in order; empty to take them from the module.
        tolerance: How far outputs may be from torch.
    """

    inputs: str | None = None
    samples: str | None = None
    opset: int = 17
    dynamic: tuple[DynamicAxis, ...] = ()
    fixed_batch: int | None = None
    output_names: tuple[str, ...] = ()
    tolerance: Tolerance = Tolerance()


@dataclass(frozen=True)
class OutputCheck:
    """One run of the exported file beside torch: shapes of the inputs, and output to largest absolute difference."""

    shapes: Mapping[str, tuple[int, ...]]
    max_abs_error: Mapping[str, float]


@dataclass(frozen=True)
class ExportedModel:
    """An ONNX file that was compared with the module it came from.

    Attributes:
        source: What was exported, as the user called it.
        path: The file.
        sha256: Digest of the file and its external data.
        opset: Its opset.
        inputs: Its inputs.
        outputs: Its outputs.
        parameters: Number of floating-point values it holds.
        checks: The comparisons, of the example inputs first.
    """

    source: str
    path: str
    sha256: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    checks: tuple[OutputCheck, ...]

    @property
    def max_abs_error(self) -> dict[str, float]:
        """Output to the largest absolute difference in any of the checks."""
        return {spec.name: max(check.max_abs_error[spec.name] for check in self.checks) for spec in self.outputs}
