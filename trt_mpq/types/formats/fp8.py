"""FP8: E4M3FN codes, weights and activations."""

from trt_mpq.types.formats.base import WHOLE, Codes, Format

E4M3 = Codes("float8_e4m3fn", 8, -448.0, 448.0, mantissa=3, tiny=2.0**-9)

FP8 = Format(
    "fp8", "8-bit floating point E4M3, weights and activations", first_sm=89, tensorrt=(10, 0), opset=19, width=8,
    codes=E4M3, weights=WHOLE, activations=WHOLE, apart_from=120, taps=32,
)  # fmt: skip
