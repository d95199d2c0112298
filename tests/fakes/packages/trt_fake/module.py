"""Puts the parts together: the namespace of `tensorrt` in one version."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from trt_fake import basics, builder, classes, config, execution, inspector, network, parser, runtime

_TESTS = Path(__file__).resolve().parents[3]
_NEWEST_OPSET = {"8.6": 17, "10.16": 24, "11.4": 25, "rtx-1.7": 25}
_SHORT_NAMES = {
    "float32": "FLOAT",
    "float16": "HALF",
    "bfloat16": "BF16",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
    "uint8": "UINT8",
    "fp8": "FP8",
    "int4": "INT4",
    "fp4": "FP4",
    "e8m0": "E8M0",
}
_MIXINS = classes.mixins(
    (
        basics.DataType,
        basics.ILogger,
        basics.Logger,
        basics.IProfiler,
        basics.Profiler,
        basics.Dims,
        basics.IHostMemory,
        basics.Weights,
        builder.Builder,
        config.IBuilderConfig,
        config.ITimingCache,
        config.IRuntimeCache,
        config.IRuntimeConfig,
        config.IOptimizationProfile,
        execution.IExecutionContext,
        inspector.EngineInspector,
        network.ITensor,
        network.ILayer,
        network.INetworkDefinition,
        parser.OnnxParser,
        parser.ParserError,
        runtime.Runtime,
        runtime.ICudaEngine,
    )
)
_OLD_DETAILS = {name: {"bases": ["ILayer"]} for name in ("IFullyConnectedLayer", "IRNNv2Layer")}
"""Classes that only 8.6 has, as far as it matters here."""
_SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}


def make_module(version: str) -> dict[str, Any]:
    """The names of the module `tensorrt` in "8.6", "10.16" or "11.4", or of TensorRT for RTX in "rtx-1.7"."""
    described = _read(f"facts/tensorrt-{version}.json")
    # There are no bindings of 8.6 to ask, so it borrows what 10.16 has of the names that both have.
    nearest = "10.16" if version == "8.6" else version
    details = _read(f"contracts/details-{nearest}.json")["classes"]
    numbers = _read("facts/tensorrt-enum-values.json")[nearest]
    api = SimpleNamespace(__version__=described["version"], _newest_opset=_NEWEST_OPSET[version])
    severity = classes.enumeration("Severity", _SEVERITIES, {"__qualname__": "ILogger.Severity"})
    loggers = {
        name: type(name, (), {**vars(_MIXINS[name]), "Severity": severity, **severity.__members__})
        for name in ("ILogger", "Logger")
    }
    structure = classes.Structure(described["classes"], details | _OLD_DETAILS, numbers)
    classes.Maker(api, structure, {**_MIXINS, **loggers}).make_all()
    for name in basics.DISPOSABLE:
        made = getattr(api, name)
        made.__enter__, made.__exit__ = basics.Disposable.__enter__, basics.Disposable.__exit__
    names = {name: made for name, made in vars(api).items() if not name.startswith("_")}
    types = api.DataType.__members__
    names |= {short: types[member] for short, member in _SHORT_NAMES.items() if member in types}
    return names | {"__version__": described["version"]} | _functions(names)


def _read(path: str) -> dict[str, Any]:
    return dict(json.loads((_TESTS / path).read_text()))


def _functions(names: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    def volume(iterable: Iterable[int]) -> int:
        total = 1
        for size in iterable:
            total *= size
        return total

    def nptype(trt_type: Any) -> Any:
        known = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64}
        known |= {"BOOL": np.bool_, "UINT8": np.uint8}
        if trt_type.name not in known:
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return known[trt_type.name]

    def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
        return True

    def get_nv_onnx_parser_version() -> int:
        return int(names["OnnxParser"]._api.__version__.split(".")[0]) * 10000

    return {
        function.__name__: function
        for function in (volume, nptype, init_libnvinfer_plugins, get_nv_onnx_parser_version)
    }
