"""What the TensorRT in use can do, asked of its API and never of its version number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from trt_mpq.errors import SettingsError
from trt_mpq.runtime.tensorrt.flavour import load_tensorrt, using
from trt_mpq.types.engine import Flavour, Typing


@dataclass(frozen=True)
class Capabilities:
    """What this TensorRT offers, as far as it decides how an engine is built.

    Attributes:
        version: Its version, for messages and file names.
        strong_typing: Types in the network decide precision.
        weak_typing: Builder flags and layer constraints decide precision.
        fp8: FP8 Q/DQ can come from ONNX.
    """

    version: str
    strong_typing: bool
    weak_typing: bool
    fp8: bool


def capabilities(flavour: Flavour = "tensorrt") -> Capabilities:
    """What the installed TensorRT of that flavour can do; raises as `load_tensorrt`."""
    with using(flavour):
        trt = load_tensorrt()
    weak = hasattr(trt.BuilderFlag, "FP16") and hasattr(trt.ILayer, "precision")
    # A version without weak typing is strongly typed whether or not it still has the flag.
    strong = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") or not weak
    return Capabilities(
        version=trt.__version__,
        strong_typing=strong,
        weak_typing=weak,
        # 8.6 has the type but its ONNX parser does not: both came to ONNX with strong typing.
        fp8=strong and hasattr(trt.DataType, "FP8"),
    )


def resolve_typing(wanted: Literal["auto", "strong", "weak"], found: Capabilities) -> Typing:
    """How to type the network: what was asked for, and by default strongly wherever that exists.

    Raises:
        SettingsError: This TensorRT does not have what was asked for.
    """
    if wanted == "strong" and not found.strong_typing:
        raise SettingsError(f"TensorRT {found.version} has no strong typing: choose typing weak or auto")
    if wanted == "weak" and not found.weak_typing:
        raise SettingsError(f"TensorRT {found.version} has no weak typing: choose typing strong or auto")
    if wanted == "auto":
        return "strong" if found.strong_typing else "weak"
    return wanted


def bits(members: Any, *names: str) -> int:
    """Bit mask of those members of a TensorRT enum, by name, that this version has."""
    return sum(1 << int(getattr(members, name)) for name in names if hasattr(members, name))
