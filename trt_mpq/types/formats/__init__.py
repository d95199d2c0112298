"""Numeric formats, a file each: what `Precision` names."""

from trt_mpq.types.formats.base import Codes, Format, Scales
from trt_mpq.types.formats.bf16 import BF16
from trt_mpq.types.formats.fp8 import FP8
from trt_mpq.types.formats.fp16 import FP16
from trt_mpq.types.formats.fp32 import FP32
from trt_mpq.types.formats.int4 import INT4
from trt_mpq.types.formats.int8 import INT8
from trt_mpq.types.formats.nvfp4 import NVFP4
from trt_mpq.types.formats.w4a16 import W4A16
from trt_mpq.types.formats.w8a16 import W8A16

FORMATS = {known.name: known for known in (FP32, FP16, BF16, W8A16, FP8, INT8, W4A16, NVFP4, INT4)}
"""Every format by its name."""

__all__ = ["FORMATS", "Codes", "Format", "Scales"]
