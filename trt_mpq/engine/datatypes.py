"""Spellings of number formats in what TensorRT writes: tensor descriptions and kernel names.

The inspector of TensorRT 8.6 says "Thirty-two wide channel vectorized row major Int8 format", Myelin says "Half",
11.x says "Float", and kernels carry their operand types in their names. All become fp32, tf32, fp16,
bf16, fp8, int8, fp4.
"""

from __future__ import annotations

import re

UNKNOWN = "unknown"

_SPELLINGS = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float8e4m3fn": "fp8",
    "float8e4m3": "fp8",
    "float8": "fp8",
    "fp8": "fp8",
    "e4m3": "fp8",
    "float4": "fp4",
    "fp4": "fp4",
    "e2m1": "fp4",
    "float16": "fp16",
    "fp16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "fp32": "fp32",
    "float": "fp32",
    "int64": "int64",
    "int32": "int32",
    "int16": "int16",
    "int8": "int8",
    "int4": "int4",
    "uint8": "uint8",
    "bool": "bool",
}
_SPELLING = re.compile(r"\b(?:" + "|".join(sorted(_SPELLINGS, key=len, reverse=True)) + ")", re.IGNORECASE)

_KERNEL_TYPES = {
    "i8": "int8",
    "s8": "int8",
    "int8": "int8",
    "e4m3": "fp8",
    "e2m1": "fp4",
    "f16": "fp16",
    "bf16": "bf16",
    "tf32": "tf32",
    "f32": "fp32",
}
_TYPE = "(" + "|".join(sorted(_KERNEL_TYPES, key=len, reverse=True)) + ")"
_ANY = r"(?:[a-z]+\d+[a-z0-9]*?)"
_XMMA = re.compile(rf"_{_TYPE}{_ANY}_{_TYPE}{_ANY}_(?:f|bf|i)\d+(?:_|$)")
"""Operands in names of xmma kernels: ``i8f32_i8i32_f32`` multiplies int8 by int8, whatever it writes."""

_TOKENS = (
    (re.compile(r"int8(?:x\d+)?|i8i8|s8(?:s8)?|i(?:8816|8832|16816|16832)\w*|\w*imma|icudnn|igemm"), "int8"),
    (re.compile(r"(?:e2m1)+\w*|(?:nv)?fp4|mxf4\w*"), "fp4"),
    (re.compile(r"(?:e4m3)+\w*|fp8|qmma"), "fp8"),
    (re.compile(r"bf16(?:bf16)?"), "bf16"),
    (re.compile(r"fp16|f16(?:f16)?|h(?:884|1688|16816)\w*|\w*hmma|hgemm|hcudnn"), "fp16"),
    (re.compile(r"tf32(?:f32)?"), "tf32"),
    (re.compile(r"scudnn|sgemm|f32f32|ffma|fp32"), "fp32"),
)
"""Words of other kernel names, narrowest format first: a kernel may also name what it accumulates in or writes."""


def datatype_of(text: str) -> str:
    """The number format in a description such as "Row major linear FP32 format", "unknown" if it holds none."""
    found = _SPELLING.search(text)
    return _SPELLINGS[found.group().lower()] if found else UNKNOWN


def kernel_datatype(tactic: str) -> str:
    """The format in which a kernel multiplies, tf32 included, as its name tells; "unknown" if it does not."""
    name = tactic.lower()
    operands = _XMMA.search(name)
    if operands:
        types = {_KERNEL_TYPES[operand] for operand in operands.groups()}
        return next((kind for kind in ("tf32", "int8", "fp4", "fp8", "bf16", "fp16") if kind in types), "fp32")
    words = re.split(r"[^a-z0-9]+", name)
    return next((kind for pattern, kind in _TOKENS if any(pattern.fullmatch(word) for word in words)), UNKNOWN)
