"""The numeric formats."""

from __future__ import annotations

from enum import Enum


class Precision(str, Enum):
    """A numeric format a group can run in. Its value is the spelling on the command line."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"

    def __str__(self) -> str:
        return self.value

    @property
    def bits(self) -> int:
        """Width of one element in bits."""
        return {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4}[self.value]

    @property
    def quantized(self) -> bool:
        """Whether values carry a scale (Q/DQ) instead of being plain floating point."""
        return self in (Precision.FP8, Precision.INT8, Precision.INT4)

    @property
    def deployable(self) -> bool:
        """Whether TensorRT has kernels for it; INT4 activations exist for study only."""
        return self is not Precision.INT4
