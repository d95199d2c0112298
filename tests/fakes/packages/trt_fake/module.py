"""Puts the parts together: the namespace of `tensorrt` in one version."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from trt_fake import basics, builder, classes, config, execution, inspector, network, parser, runtime

_FACTS = Path(__file__).resolve().parents[3] / "facts"
_NEWEST_OPSET = {"8.6": 17, "10.16": 24, "11.4": 25}
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
_SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}


def facts(version: str) -> dict[str, Any]:
    """The facts of "8.6", "10.16" or "11.4"."""
    return dict(json.loads((_FACTS / f"tensorrt-{version}.json").read_text()))


def make_module(version: str) -> dict[str, Any]:
    """The names of the module `tensorrt` in `version`."""
    described = facts(version)
    structures = json.loads((_FACTS / "tensorrt-structure.json").read_text())
    structure = structures.get(version) or _old_structure(structures["10.16"], described["classes"])
    api = SimpleNamespace(__version__=described["version"], _newest_opset=_NEWEST_OPSET[version])
    severity = classes.enumeration("Severity", _SEVERITIES, {"__qualname__": "ILogger.Severity"})
    loggers = {
        name: type(name, (), {**vars(_MIXINS[name]), "Severity": severity, **severity.__members__})
        for name in ("ILogger", "Logger")
    }
    classes.Builder(api, described["classes"], structure, {**_MIXINS, **loggers}).make_all()
    for name in basics.DISPOSABLE:
        made = getattr(api, name)
        made.__enter__, made.__exit__ = basics.Disposable.__enter__, basics.Disposable.__exit__
    names = {name: made for name, made in vars(api).items() if not name.startswith("_")}
    types = api.DataType.__members__
    names |= {short: types[member] for short, member in _SHORT_NAMES.items() if member in types}
    return names | {"__version__": described["version"]} | _functions(names)


def _old_structure(structure: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """Bases and constructors of 8.6, for which there are no bindings to ask: those of 10.16 where they fit."""
    bases = {name: base for name, base in structure["bases"].items() if base in described}
    bases |= {"IFullyConnectedLayer": "ILayer", "IRNNv2Layer": "ILayer"}
    return {"values": structure["values"], "bases": bases, "constructors": structure["constructors"]}


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
