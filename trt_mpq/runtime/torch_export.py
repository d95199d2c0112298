"""Torch modules as the exporter sees them: run on arrays by name, traced into an ONNX graph.

Tracing is `torch.export`, translation is `torch.onnx` with `dynamo=True`, always to the oldest opset it writes itself;
other opsets are made by `graph/opset.py`, because torch's own way below 18 logs and goes on where it fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_mpq.errors import DataError, ModelError
from trt_mpq.graph.onnx_api import first_line
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.torch_autograd import import_torch
from trt_mpq.runtime.user_code import UserCodeError, running_user_code

if TYPE_CHECKING:
    import onnx_ir as ir

NATIVE_OPSET = 18
"""The oldest opset that torch's exporter has operators for."""
WRAPPED = "module."
"""What stands before the names of parameters and scopes in an exported graph."""

_FIXED_AXIS = re.compile(
    r"\[(\d+)\]\.size\(\)\[(\d+)\] as dynamic but your code specialized it to be a constant \((\d+)\)"
)
_OPERATOR = re.compile(r"target=torch\.ops\.([\w.]+)\]")


class TorchModule:
    """A torch module in evaluation mode, in float32 on the CPU.

    Args:
        module: What the user's code made.
        name: How messages call it.
        output_names: Names of its outputs, in order; empty to take them from what it returns.

    Raises:
        MissingDependencyError: torch is not installed, or too old.
        ModelError: `module` is no torch module.
    """

    def __init__(self, module: Any, name: str, output_names: tuple[str, ...] = ()) -> None:
        self._torch = import_torch("the export", exporter=True)
        if not isinstance(module, self._torch.nn.Module):
            raise ModelError(
                f"{name} gives an object of type {type(module).__name__}: it must return a torch.nn.Module, alone "
                "or in a pair with example inputs"
            )
        self._module = module.eval().float().cpu()
        self._name, self._output_names = name, output_names

    def named(self, examples: Any) -> Arrays:
        """Example inputs by the name of the parameter of `forward` they are for, in the order of `forward`.

        Args:
            examples: A tensor or array, a sequence of them for the first parameters, or a mapping from names.

        Raises:
            DataError: They do not fit `forward`, or one is no tensor.
        """
        signature = inspect.signature(self._module.forward)
        positional, by_name = ((), examples) if isinstance(examples, Mapping) else (examples, {})
        if not isinstance(positional, list | tuple):
            positional = (positional,)
        given = ", ".join(map(str, by_name)) or f"{len(positional)} in all"
        try:
            bound = signature.bind(*positional, **by_name).arguments
        except TypeError as error:
            raise DataError(
                f"the inputs ({given}) do not fit {self._name}, whose forward takes {signature}: {error}"
            ) from error
        for kind, name in ((parameter.kind, parameter.name) for parameter in signature.parameters.values()):
            if name in bound and kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
                raise DataError(f"forward of {self._name} takes {name!r} without a name: give each input a parameter")
            if name in bound and kind is inspect.Parameter.VAR_KEYWORD:
                bound.update(bound.pop(name))
        return {name: self._array(name, value) for name, value in bound.items()}

    def run(self, feeds: Arrays) -> Arrays:
        """Every output by name for `feeds`, which `forward` takes by name.

        Raises:
            ModelError: The module raises, or returns something that is no tensor.
        """
        with self._tracing():
            tensors = {name: self._tensor(value) for name, value in feeds.items()}
            try:
                with running_user_code():
                    result = self._module(**tensors)
            except UserCodeError as error:
                raise ModelError(f"{self._name}, called for {shapes_text(feeds)}, {_line(error)}") from error
            return {name: tensor.numpy() for name, tensor in self._outputs(result).items()}

    def to_onnx(self, feeds: Arrays, outputs: Sequence[str], dynamic: Mapping[str, Mapping[int, bool]]) -> ir.Model:
        """The graph that torch traces for `feeds`, at opset `NATIVE_OPSET`.

        Inputs and outputs have their names; dimensions have torch's symbols; names of parameters and scopes begin
        with `WRAPPED`.

        Args:
            feeds: Example inputs; a dynamic axis has two or more elements.
            outputs: Names of the outputs, as `run` gives them.
            dynamic: Input name to its dynamic axes; True for an axis that must be dynamic, False for one that
                becomes fixed if the module fixes it.

        Raises:
            ModelError: Torch cannot trace or translate the module.
        """
        dim = self._torch.export.Dim
        axes = tuple(
            {axis: dim.DYNAMIC if must else dim.AUTO for axis, must in dynamic.get(name, {}).items()} for name in feeds
        )
        tensors = tuple(self._tensor(value) for value in feeds.values())
        with self._tracing():
            wrapped = self._by_position(tuple(feeds))
            try:
                program = self._torch.export.export(wrapped, tensors, dynamic_shapes=(axes,), strict=False)
            except Exception as error:  # torch has no common base for what tracing raises
                raise ModelError(self._untraceable(error, tuple(feeds))) from error
            try:
                exported = self._torch.onnx.export(
                    program, dynamo=True, opset_version=NATIVE_OPSET, verbose=False,
                    input_names=list(feeds), output_names=list(outputs),
                )  # fmt: skip
            except Exception as error:  # nor for what translation raises
                raise ModelError(self._untranslatable(error)) from error
        return exported.model  # type: ignore[no-any-return]

    def digest(self) -> str:
        """SHA-256 over names, types and values of parameters and buffers."""
        digest = hashlib.sha256()
        for kind in (self._module.named_parameters, self._module.named_buffers):
            for name, tensor in kind():
                values = tensor.detach().contiguous().numpy()
                digest.update(f"{name} {values.dtype} {values.shape};".encode())
                digest.update(np.atleast_1d(values).data)
        return digest.hexdigest()

    def _by_position(self, names: tuple[str, ...]) -> Any:
        module, outputs = self._module, self._outputs

        class ByPosition(self._torch.nn.Module):  # type: ignore[misc, name-defined]
            """Takes and returns tuples, so that the order of inputs and outputs is ours."""

            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, *tensors: Any) -> tuple[Any, ...]:
                return tuple(outputs(self.module(**dict(zip(names, tensors, strict=True)))).values())

        return ByPosition().eval()

    def _outputs(self, result: Any) -> dict[str, Any]:
        found = list(self._flattened(result, ""))
        names = self._output_names or tuple(name for name, _ in found)
        if len(names) != len(found) or len(set(names)) != len(names) or not found:
            listed = ", ".join(name for name, _ in found) or "none"
            raise ModelError(
                f"{self._name} returns {len(found)} outputs ({listed}) and they are called {', '.join(names) or '-'}: "
                "give one name for each, all different, with --output-names"
            )
        return {name: tensor for name, (_, tensor) in zip(names, found, strict=True)}

    def _flattened(self, result: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(result, self._torch.Tensor):
            yield name or "output", result
        elif isinstance(result, Mapping):
            for key, value in result.items():
                yield from self._flattened(value, f"{name}.{key}" if name else str(key))
        elif isinstance(result, list | tuple):
            for number, value in enumerate(result):
                yield from self._flattened(value, f"{name or 'output'}_{number}" if len(result) > 1 else name)
        elif result is not None:
            raise ModelError(
                f"{self._name} returns an object of type {type(result).__name__}: it must return tensors, in tuples "
                "or dictionaries if there are several"
            )

    @contextlib.contextmanager
    def _tracing(self) -> Iterator[None]:
        """No gradients, no messages, and attention spelled out in the run that the export is compared with too.

        The fast path of torch's encoder layers writes zeros where a mask hides a token, the traced one does not.
        """
        mha = self._torch.backends.mha
        fast = mha.get_fastpath_enabled()
        mha.set_fastpath_enabled(False)
        try:
            with self._torch.no_grad(), quiet():
                yield
        finally:
            mha.set_fastpath_enabled(fast)

    def _array(self, name: str, value: Any) -> Array:
        if not isinstance(value, self._torch.Tensor | np.ndarray):
            raise DataError(f"input {name!r} of {self._name} is of type {type(value).__name__}: it must be a tensor")
        tensor = self._torch.as_tensor(value).detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # type: ignore[no-any-return]

    def _tensor(self, value: Array) -> Any:
        return self._torch.tensor(value)

    def _untraceable(self, error: Exception, inputs: tuple[str, ...]) -> str:
        fixed = _FIXED_AXIS.search(str(error))
        if fixed:
            name, axis, size = inputs[int(fixed[1])], fixed[2], fixed[3]
            advice = f"pass --fixed-batch {size}" if axis == "0" else "leave the axis out of --dynamic"
            return (
                f"axis {axis} of input {name!r} cannot be dynamic, because {self._name} fixes it at {size}: change the "
                f"module, or {advice}"
            )
        line = _line(error)
        if "data-dependent" in line:
            return (
                f"what {self._name} computes depends on the values of a tensor, which torch cannot trace ({line}): "
                "replace the `if` or the size in its forward by torch.where or masking"
            )
        return f"torch cannot trace {self._name}: {type(error).__name__}: {line}"

    def _untranslatable(self, error: Exception) -> str:
        operator = _OPERATOR.search(str(error.__cause__))
        if operator:
            return (
                f"torch has no ONNX form for the operator {operator[1]} of {self._name}: write it with other operations"
            )
        return f"torch cannot write {self._name} as ONNX: {first_line(error)}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what libraries warn, log and print in the block: what matters of it is raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """The same random numbers in the block each time, so that a factory that draws weights draws the same again."""
    torch = import_torch("the export", exporter=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def shapes_text(feeds: Arrays) -> str:
    """The arrays as a message lists them: ids int64[2, 8], mask int64[2, 8]."""
    return ", ".join(f"{name} {value.dtype}[{', '.join(map(str, value.shape))}]" for name, value in feeds.items())


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
