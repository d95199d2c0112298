"""INT8: symmetric 8-bit integers, weights and activations."""

from trt_mpq.types.formats.base import WHOLE, Codes, Format

EIGHT_BIT_INTEGERS = Codes("int8", 8, -128.0, 127.0)

INT8 = Format(
    "int8", "8-bit integers, weights and activations", first_sm=0, tensorrt=(8, 6), opset=19, width=8,
    codes=EIGHT_BIT_INTEGERS, weights=WHOLE, activations=WHOLE,
)  # fmt: skip
