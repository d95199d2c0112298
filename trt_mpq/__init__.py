"""trt-mpq: sensitivity-guided mixed-precision quantization for NVIDIA TensorRT.

`build` does all of it, `Run` one stage at a time, `load` reads a finished run; the rest are the values that they take
and return. Nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trt_mpq.api.result import DeviceResults, ReportPage, Result, load
    from trt_mpq.api.run import Run, build
    from trt_mpq.errors import TrtMpqError
    from trt_mpq.export import DynamicAxis, ExportOptions
    from trt_mpq.sensitivity.agreement import Sensitivities
    from trt_mpq.settings import EngineOptions
    from trt_mpq.types import Grouping, Observer, Precision, PrecisionPlan, Ranges, SearchResult
    from trt_mpq.types.compilation import Compilation

__version__ = "0.1.0"

__all__ = [
    "Compilation",
    "DeviceResults",
    "DynamicAxis",
    "EngineOptions",
    "ExportOptions",
    "Grouping",
    "Observer",
    "Precision",
    "PrecisionPlan",
    "Ranges",
    "ReportPage",
    "Result",
    "Run",
    "SearchResult",
    "Sensitivities",
    "TrtMpqError",
    "__version__",
    "build",
    "load",
]

_HOMES = {
    "api.result": ("DeviceResults", "ReportPage", "Result", "load"),
    "api.run": ("Run", "build"),
    "errors": ("TrtMpqError",),
    "export": ("DynamicAxis", "ExportOptions"),
    "sensitivity.agreement": ("Sensitivities",),
    "settings": ("EngineOptions",),
    "types": ("Grouping", "Observer", "Precision", "PrecisionPlan", "Ranges", "SearchResult"),
    "types.compilation": ("Compilation",),
}
"""Where the names above are."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"trt_mpq.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
