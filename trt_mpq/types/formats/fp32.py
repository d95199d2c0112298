"""FP32: single precision."""

from trt_mpq.types.formats.base import Format

FP32 = Format("fp32", "single precision", first_sm=0, tensorrt=(8, 6), opset=19, width=32)
