"""What calibration observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trt_mpq.types.precision import Precision


@dataclass(frozen=True)
class TensorRange:
    """Observed values of one tensor and the clipping magnitude (`amax`) chosen per format.

    `amax` is empty for tensors that were only watched for overflow.
    """

    minimum: float
    maximum: float
    amax: Mapping[Precision, float] = field(default_factory=dict)

    @property
    def magnitude(self) -> float:
        """Largest absolute value observed."""
        return max(abs(self.minimum), abs(self.maximum))


@dataclass(frozen=True)
class Ranges:
    """Result of calibration: tensor name to range, the method, and how many samples were seen."""

    method: str
    samples: int
    tensors: Mapping[str, TensorRange]
