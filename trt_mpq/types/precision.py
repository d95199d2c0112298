"""The numeric formats by name."""

from __future__ import annotations

from enum import Enum

from trt_mpq.types.formats import FORMATS, Codes, Format


class Precision(str, Enum):
    """A numeric format a group can run in, widest first. Its value is the spelling on the command line."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    W8A16 = "w8a16"
    FP8 = "fp8"
    INT8 = "int8"
    W4A16 = "w4a16"
    NVFP4 = "nvfp4"
    INT4 = "int4"

    def __str__(self) -> str:
        return self.value

    @property
    def spec(self) -> Format:
        """What it is."""
        return FORMATS[self.value]

    @property
    def codes(self) -> Codes:
        """What a quantized precision stores elements as; ValueError for the others."""
        if self.spec.codes is None:
            raise ValueError(f"{self} has no codes")
        return self.spec.codes

    @property
    def quantized(self) -> bool:
        """Whether values carry a scale (Q/DQ) instead of being plain floating point."""
        return self.spec.quantized

    @property
    def deployable(self) -> bool:
        """Whether TensorRT has kernels for it."""
        return self.spec.deployable

    @classmethod
    def reading(cls) -> tuple[Precision, ...]:
        """Those that quantize what a group reads."""
        return tuple(precision for precision in cls if precision.spec.activations is not None)

    def read_in(self, top: Precision) -> Precision:
        """What a kernel that computes in it reads tensors in, in a network of high precision `top`."""
        return top if self.spec.weight_only else self

    def arithmetic(self, top: Precision) -> Precision:
        """The precision whose kernels multiply it, in a network of high precision `top`."""
        if self.spec.weight_only:
            return top
        return self if self.spec.borrows is None else Precision(self.spec.borrows)
