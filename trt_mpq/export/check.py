"""The exported file beside the module it came from: same inputs, and sizes other than the traced ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_mpq.errors import ModelError, RuntimeFailure
from trt_mpq.export.axes import BATCH, resized, sizes_of
from trt_mpq.export.values import DynamicAxis, OutputCheck, Tolerance
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.runtime.torch_export import TorchModule, shapes_text


def require_finite(outputs: Arrays, name: str) -> None:
    """Raise ModelError if an output of the module holds NaN."""
    for output, values in outputs.items():
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ModelError(
                f"output {output!r} of {name} holds NaN for the example inputs: give inputs the module can handle, or "
                "repair its weights"
            )


def check_file(
    path: Path, module: TorchModule, feeds: Arrays, axes: Sequence[DynamicAxis], tolerance: Tolerance
) -> tuple[OutputCheck, ...]:
    """Run the file at `path` and the module on `feeds` and on the same at other sizes of the free `axes`.

    Sizes that the module itself refuses, such as more tokens than it has positions for, are left out.

    Args:
        path: The ONNX file.
        module: The module.
        feeds: Example inputs.
        axes: The free axes.
        tolerance: How far an output may be from the module's.

    Raises:
        ModelError: An output differs by more, or the file or the module runs at no other size.
    """
    session = OnnxRuntime().load(path)
    checks: list[OutputCheck] = []
    refusals: list[ModelError] = []
    for case in _cases(feeds, axes):
        try:
            expected = module.run(case)
        except ModelError as error:
            refusals.append(error)
            continue
        try:
            computed = session.run(case)
        except RuntimeFailure as error:
            raise ModelError(f"the exported file does not run for {shapes_text(case)}: {error}") from error
        for output, values in expected.items():
            _require_close(output, values, computed[output], case, tolerance)
        errors = {output: _largest(_differences(values, computed[output])) for output, values in expected.items()}
        checks.append(OutputCheck({name: value.shape for name, value in case.items()}, errors))
    if refusals and len(checks) < 2:
        raise ModelError(f"the free axes were compared at no other size: {refusals[0]}") from refusals[0]
    return tuple(checks)


def _cases(feeds: Arrays, axes: Sequence[DynamicAxis]) -> Iterator[Arrays]:
    yield feeds
    sizes = sizes_of(feeds, axes)
    if sizes:
        yield resized(feeds, axes, {symbol: 1 if symbol == BATCH else (n + 1) // 2 for symbol, n in sizes.items()})
        yield resized(feeds, axes, {symbol: n + 1 if symbol == BATCH else n + n // 2 for symbol, n in sizes.items()})


def _differences(expected: Array, computed: Array) -> NDArray[np.float64]:
    """Absolute differences of arrays of one shape; equal infinities and NaN in the same place differ by 0."""
    ours, theirs = computed.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        differences = np.where((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)), 0.0, np.abs(ours - theirs))
    return np.nan_to_num(differences, nan=np.inf, posinf=np.inf)


def _largest(values: NDArray[np.float64]) -> float:
    return float(values.max(initial=0.0))


def _require_close(output: str, expected: Array, computed: Array, case: Arrays, tolerance: Tolerance) -> None:
    where = f"output {output!r} of the exported file"
    if expected.shape != computed.shape:
        raise ModelError(
            f"{where} has shape {computed.shape} and torch's {expected.shape} for {shapes_text(case)}: a size is "
            "traced as a constant somewhere, look for .item() or int() in its forward"
        )
    differences, bound = _differences(expected, computed), tolerance.bound(expected)
    if (differences <= bound).all():
        return
    worst = np.unravel_index(np.argmax(differences - bound), differences.shape)
    raise ModelError(
        f"{where} differs from torch by {differences[worst]:.3g} for {shapes_text(case)} where torch says "
        f"{float(expected[worst]):.3g}, and {tolerance} = {bound[worst]:.3g} is allowed: raise --rtol or --atol if "
        "that is close enough, otherwise look for random numbers or unusual operations in its forward"
    )
