"""Where modules come from: a factory in the user's Python, or a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_mpq.dataset.arrays import load_npz
from trt_mpq.dataset.samples import LABELS
from trt_mpq.errors import DataError, ModelError
from trt_mpq.export.values import DynamicAxis, ExportOptions
from trt_mpq.graph.other_formats import advice_for
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.huggingface import is_model_folder, load_model_folder
from trt_mpq.runtime.torch_autograd import import_torch
from trt_mpq.runtime.torch_export import TorchModule, seeded
from trt_mpq.runtime.user_code import UserCodeError, import_user_function, is_reference, running_user_code

_EXAMPLES = 4
"""Samples of a data file that are traced and compared."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A module, example inputs in the order of its forward, and the free axes that its source knows of."""

    module: TorchModule
    feeds: Arrays
    axes: tuple[DynamicAxis, ...] = ()


def is_torch_source(text: str) -> bool:
    """Whether `text` is something to export, `module:factory` or a Hugging Face folder, and no ONNX or job file."""
    path = Path(text)
    return is_model_folder(path) or (is_reference(text) and not path.exists() and advice_for(text) is None)


def load_source(source: str, options: ExportOptions) -> Loaded:
    """The module that `source` names, with example inputs.

    Raises:
        ModelError: It cannot be imported or loaded, or gives no module.
        DataError: There are no example inputs, or they do not fit.
        MissingDependencyError: torch, or transformers for a folder, is not installed.
    """
    import_torch("the export", exporter=True)
    path = Path(source)
    if is_model_folder(path):
        module, examples, free = load_model_folder(path)
        axes = tuple(DynamicAxis(*axis) for axis in free)
    elif is_torch_source(source):
        module, examples = _called(source)
        axes = ()
    else:
        if advice := advice_for(source):
            raise ModelError(f"{source} {advice}")
        raise ModelError(
            f"{source} is nothing to export: give module:factory, found on the Python path or in the current "
            "directory, or a folder with config.json and safetensors"
        )
    wrapped = TorchModule(module, source, options.output_names)
    data = options.inputs or (options.samples if examples is None else None)
    if data is not None:
        examples = _example_inputs(data)
    if examples is None:
        raise DataError(
            f"there are no example inputs for {source}: let it return a pair (module, inputs), or pass --inputs with "
            "an .npz whose arrays are called after the parameters of forward"
        )
    feeds = wrapped.named(examples)
    return Loaded(wrapped, feeds, tuple(axis for axis in axes if axis.input in feeds))


def load_module(module: object, examples: object, name: str, options: ExportOptions) -> Loaded:
    """A module that the caller has, with example inputs: an array, a sequence in the order of forward, or a mapping.

    The module is changed: it ends in evaluation mode, in float32 on the CPU.

    Raises:
        ModelError: It is no torch module.
        DataError: The example inputs do not fit.
        MissingDependencyError: torch is not installed.
    """
    import_torch("the export", exporter=True)
    wrapped = TorchModule(module, name, options.output_names)
    return Loaded(wrapped, wrapped.named(examples))


def _example_inputs(source: str) -> Arrays:
    """The first samples of an `.npz`, without `labels`; raises DataError.

    Files keep token ids and masks in the smallest type that holds them, so integers of up to two dimensions become
    int64, which is what torch wants of them.
    """
    path = Path(source)
    if path.suffix != ".npz":
        raise DataError(f"example inputs come from an .npz file, not from {source}: write one with np.savez, by name")
    arrays = load_npz(path)
    arrays.pop(LABELS, None)
    return {name: _widened(array[:_EXAMPLES] if array.ndim else array) for name, array in arrays.items()}


def _widened(array: Array) -> Array:
    return array.astype(np.int64) if array.dtype.kind in "iu" and array.ndim <= 2 else array


def _called(source: str) -> tuple[Any, Any]:
    """What the factory returns: a module and its example inputs, or None in their place."""
    try:
        factory = import_user_function(source, "that returns a module")
        with running_user_code(), seeded():
            made = factory()
    except UserCodeError as error:
        raise ModelError(f"{source} {error}") from error
    return made if isinstance(made, tuple) and len(made) == 2 else (made, None)
