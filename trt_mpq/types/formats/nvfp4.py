"""NVFP4: 4-bit floating point in blocks of 16, weights and activations.

Codes are E2M1. Every block of 16 along the axis that is summed over has a scale, an E4M3 code, and all scales of a
tensor have one FP32 scale, ``amax / (6 * 448)``: that of the calibrated amax for activations, whose block scales are
computed anew for every input (NVIDIA, "Introducing NVFP4 for Efficient and Accurate Low-Precision Inference", 2025).
"""

from trt_mpq.types.formats.base import PRODUCTS, Codes, Format, Scales

E2M1 = Codes("float4_e2m1fn", 4, -6.0, 6.0, mantissa=1, tiny=0.5)
_IN_BLOCKS = Scales(blocks=(16,), coded=True)

NVFP4 = Format(
    "nvfp4", "4-bit floating point E2M1 in blocks of 16, weights and activations", first_sm=100, tensorrt=(10, 8),
    opset=23, width=4.5, codes=E2M1, weights=_IN_BLOCKS, activations=_IN_BLOCKS, operators=PRODUCTS, portable=False,
)  # fmt: skip
"""K has to be a multiple of 16: TensorRT refuses others, and zeros added to them would be one more kernel."""
