"""A prepared model and its tensors at the border."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TensorSpec:
    """A model input or output; a dynamic dimension is its symbolic name.

    `batch_axis` is the axis that counts rows of the batch, or None of an input that is the same for all rows.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    batch_axis: int | None = 0

    @property
    def row_shape(self) -> tuple[int | str, ...]:
        """The shape of one row, without the axis that counts them."""
        return tuple(size for axis, size in enumerate(self.shape) if axis != self.batch_axis)


@dataclass(frozen=True)
class GivenScales:
    """Scales that a quantized file has for a constant: one per index of `axis`, or one where that is None."""

    scales: tuple[float, ...]
    axis: int | None


@dataclass(frozen=True)
class Model:
    """A prepared model on disk: checked, BatchNorm folded, every node named.

    `amax` has the tensors that a quantized file clipped, and at what magnitude, `given` the scales of its weights; both
    are told by their names there. `states` has the inputs that are outputs of the step before, with these.
    """

    path: str
    sha256: str
    source_sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    parameters: int
    size_bytes: int
    amax: Mapping[str, float] = field(default_factory=dict)
    given: Mapping[str, GivenScales] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
