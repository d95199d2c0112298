"""Numeric formats, a file each: what `Precision` names."""

from trt_mpq.types.formats.base import Codes, Format, Scales
from trt_mpq.types.formats.bf16 import BF16
from trt_mpq.types.formats.fp8 import FP8
from trt_mpq.types.formats.fp16 import FP16
from trt_mpq.types.formats.fp32 import FP32
from trt_mpq.types.formats.int4 import INT4
from trt_mpq.types.formats.int8 import INT8

FORMATS = {known.name: known for known in (FP32, FP16, BF16, FP8, INT8, INT4)}
"""Every format by its name."""

__all__ = ["FORMATS", "Codes", "Format", "Scales"]
