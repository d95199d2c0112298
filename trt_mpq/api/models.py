"""Models of a Python program: a file, an ONNX model or a torch module, and what it takes."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from trt_mpq.api.data import Expected, first_rows
from trt_mpq.artifacts.files import TEMPORARY
from trt_mpq.artifacts.folder import make_folder
from trt_mpq.artifacts.store import opened_folder
from trt_mpq.errors import DataError, ModelError
from trt_mpq.export import ExportOptions, export_loaded_once, is_torch_source, load_module
from trt_mpq.model import load_graph, model_digest, save_graph
from trt_mpq.runtime.base import Array
from trt_mpq.types import Observer

GIVEN = "given"
"""Folder of the run folder for what Python programs give."""
_EXAMPLES = 4
"""Samples of the calibration data that are traced and compared."""


def expected_by_file(path: Path) -> Expected:
    """What the model of an ONNX file takes; raises ModelError."""
    fed = [value for value in load_graph(path).graph.inputs if not value.is_initializer()]
    names = tuple(str(value.name) for value in fed)
    dtypes = {str(value.name): str(value.dtype.numpy()) for value in fed if value.dtype is not None}
    ranks = {str(value.name): len(value.shape) for value in fed if value.shape is not None}
    return Expected(names, len(names), dtypes, ranks)


def expected_by_module(module: Any, examples: Any) -> Expected:
    """What a torch module takes, by its `forward`, or as many arguments as the `examples` have."""
    if isinstance(examples, Mapping):
        return Expected(tuple(map(str, examples)), len(examples))
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [parameter for parameter in parameters if parameter.kind in kinds]
    needed = sum(parameter.default is inspect.Parameter.empty for parameter in named)
    if isinstance(examples, tuple | list):
        needed = len(examples)
        named = named[:needed]
    return Expected(tuple(parameter.name for parameter in named), needed)


def is_torch_module(model: object) -> bool:
    """Whether `model` is a torch.nn.Module, told without importing torch."""
    return any(kind.__module__ == "torch.nn.modules.module" for kind in type(model).__mro__)


def named_source(model: object) -> Path:
    """A model that is named: a file, a job, a `module:factory` or a folder; raises ModelError."""
    if isinstance(model, str | Path):
        return Path(model)
    raise ModelError(
        f"got an object of type {type(model).__name__} for a model: give the path of an ONNX file, an onnx.ModelProto "
        "or a torch.nn.Module"
    )


def is_file(source: Path) -> bool:
    """Whether `source` is an ONNX file, and neither a job nor something to export."""
    return source.suffix != ".toml" and not is_torch_source(str(source))


def written_proto(model: onnx.ModelProto, folder: Path) -> Path:
    """The file of a run folder that `model` is written to, unless the folder belongs to another model.

    Raises:
        RunFolderError: It does, or cannot be written.
        ModelError: The model is not sound.
    """
    try:
        graph = ir.from_proto(model)
    except ir.serde.SerdeError as error:
        raise ModelError(f"the ONNX model is not sound: {error}") from error
    opened_folder(folder)
    make_folder(folder / GIVEN)
    path = folder / GIVEN / f"{model.graph.name or 'model'}.onnx".replace("/", "_")
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder) as staged:
        draft = Path(staged) / path.name
        save_graph(graph, draft)
        opened_folder(folder, model_digest(draft))
        for file in sorted(Path(staged).iterdir(), reverse=True):  # the data before the model that points to it
            file.replace(path.parent / file.name)
    return path


def exported_module(
    module: Any,
    examples: Any,
    arrays: Mapping[str, Array] | None,
    folder: Path,
    options: ExportOptions,
    observer: Observer,
) -> Path:
    """The ONNX file that a torch module is exported to, once for every state of it; the module stays as it is.

    Args:
        module: A torch.nn.Module.
        examples: Example inputs: a tensor, a tuple in the order of forward, or a mapping; None takes some of `arrays`.
        arrays: The calibration data by name.
        folder: The run folder.
        options: How to export.
        observer: Told of the stages.

    Raises:
        TrtMpqError: It cannot be exported, see `trt_mpq.export.export_to_onnx`.
    """
    if examples is None and arrays is None:
        raise DataError("there are no example inputs for the torch module: give example_inputs=, or data for calib=")
    inputs = first_rows(arrays, _EXAMPLES) if examples is None and arrays is not None else examples
    opened_folder(folder)
    name = type(module).__name__
    loaded = load_module(copy.deepcopy(module), inputs, name, options)
    return Path(export_loaded_once(name, loaded, folder / "exported", options, observer).path)
