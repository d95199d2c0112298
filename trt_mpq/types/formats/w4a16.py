"""W4A16: weights as 4-bit integers in blocks, activations in high precision."""

from trt_mpq.types.formats.base import PRODUCTS, Format, Scales
from trt_mpq.types.formats.int4 import FOUR_BIT_INTEGERS

W4A16 = Format(
    "w4a16", "4-bit integer weights in blocks, activations in 16 bit", first_sm=80, tensorrt=(10, 0), opset=21,
    width=16, codes=FOUR_BIT_INTEGERS, weights=Scales(blocks=(128, 64)), operators=PRODUCTS, apart_from=80,
)  # fmt: skip
"""Blocks of 128 where K is two or more of them, else of 64: the sizes that TensorRT documents. What is neither stays
out: the parser refuses a block that is not full, and rows of zeros added to the weight would want columns of
zeros added to what it is multiplied with."""
