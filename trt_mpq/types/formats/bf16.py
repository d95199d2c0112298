"""BF16: the range of FP32 with eight significant bits."""

from trt_mpq.types.formats.base import Format

BF16 = Format("bf16", "bfloat16, with the range of single precision", first_sm=80, tensorrt=(10, 0), opset=22, width=16)
"""Convolutions and pooling take BF16 from opset 22 on."""
