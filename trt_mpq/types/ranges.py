"""What calibration observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trt_mpq.types.precision import Precision

PER_TENSOR = "per-tensor"
"""What the calibration method of a format is called that has one for every tensor."""


@dataclass(frozen=True)
class TensorRange:
    """Observed values of one tensor and the clipping magnitude (`amax`) chosen per format.

    `amax` is empty for tensors that were only watched for overflow, whose extremes are infinite where a value is NaN or
    infinite. `bins` counts its magnitudes in equal bins from 0 to the largest; it is empty where no method needed them.
    `smallest` is the least magnitude other than zero of a tensor that an operator reads which has no value at
    zero; None for the others, and if all is zero. `methods` says for formats with a method for every tensor which one
    chose that of this.
    """

    minimum: float
    maximum: float
    amax: Mapping[Precision, float] = field(default_factory=dict)
    smallest: float | None = None
    bins: tuple[int, ...] = ()
    methods: Mapping[Precision, str] = field(default_factory=dict)

    @property
    def magnitude(self) -> float:
        """Largest absolute value observed."""
        return max(abs(self.minimum), abs(self.maximum))

    def share_beyond(self, amax: float) -> float | None:
        """Share of the values whose magnitude is above `amax`, within a bin by interpolation; None without `bins`."""
        if not sum(self.bins):
            return None
        position = amax / self.magnitude * len(self.bins)
        whole = int(position)
        within = self.bins[whole] * (whole + 1 - position) if whole < len(self.bins) else 0.0
        return (within + sum(self.bins[whole + 1 :])) / sum(self.bins)


@dataclass(frozen=True)
class Ranges:
    """Result of calibration: tensor name to range, the method by format, and how many samples were seen.

    The method of a format whose tensors have one each is `PER_TENSOR`.
    """

    methods: Mapping[Precision, str]
    samples: int
    tensors: Mapping[str, TensorRange]

    def agrees(self, other: Ranges, precision: Precision) -> bool:
        """Whether both have the same amax for `precision` on every tensor."""
        return all(
            found.amax.get(precision) == other.tensors[name].amax.get(precision) for name, found in self.tensors.items()
        )
