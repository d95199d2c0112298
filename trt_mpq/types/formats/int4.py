"""INT4 weights and activations, for study: the 4 bits of the paper, for which TensorRT has no kernels."""

from trt_mpq.types.formats.base import WHOLE, Codes, Format

FOUR_BIT_INTEGERS = Codes("int4", 4, -8.0, 7.0)

INT4 = Format(
    "int4", "4-bit integers, weights and activations, for study", first_sm=0, tensorrt=(10, 0), opset=21, width=4,
    codes=FOUR_BIT_INTEGERS, weights=WHOLE, activations=WHOLE, deployable=False, borrows="int8",
)  # fmt: skip
"""Modelled at the INT8 rate with half the bytes, on every GPU that has INT8."""
