"""FP16: half precision."""

from trt_mpq.types.formats.base import Format

FP16 = Format("fp16", "half precision", first_sm=0, tensorrt=(8, 6), opset=19, width=16)
"""QuantizeLinear takes FP16 from opset 19 on."""
