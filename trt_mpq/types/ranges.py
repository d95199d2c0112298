"""What calibration observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trt_mpq.types.precision import Precision


@dataclass(frozen=True)
class TensorRange:
    """Observed values of one tensor and the clipping magnitude (`amax`) chosen per format.

    `amax` is empty for tensors that were only watched for overflow, whose extremes are infinite where a value is NaN or
    infinite. `smallest` is the least magnitude other than zero of a tensor that an operator reads which has no value at
    zero; None for the others, and if all is zero.
    """

    minimum: float
    maximum: float
    amax: Mapping[Precision, float] = field(default_factory=dict)
    smallest: float | None = None

    @property
    def magnitude(self) -> float:
        """Largest absolute value observed."""
        return max(abs(self.minimum), abs(self.maximum))


@dataclass(frozen=True)
class Ranges:
    """Result of calibration: tensor name to range, the method by format, and how many samples were seen."""

    methods: Mapping[Precision, str]
    samples: int
    tensors: Mapping[str, TensorRange]

    def agrees(self, other: Ranges, precision: Precision) -> bool:
        """Whether both have the same amax for `precision` on every tensor."""
        return all(
            found.amax.get(precision) == other.tensors[name].amax.get(precision) for name, found in self.tensors.items()
        )
