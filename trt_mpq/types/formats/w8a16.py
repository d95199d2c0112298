"""W8A16: weights as 8-bit integers, activations in high precision."""

from trt_mpq.types.formats.base import PRODUCTS, WHOLE, Format
from trt_mpq.types.formats.int8 import EIGHT_BIT_INTEGERS

W8A16 = Format(
    "w8a16", "8-bit integer weights per channel, activations in 16 bit", first_sm=80, tensorrt=(10, 0), opset=19,
    width=16, codes=EIGHT_BIT_INTEGERS, weights=WHOLE, operators=PRODUCTS, apart_from=80,
)  # fmt: skip
"""Per channel, because weights in blocks of 8-bit integers are dequantized by a kernel of their own; so are all before
Ampere (TensorRT for RTX 1.7.1)."""
