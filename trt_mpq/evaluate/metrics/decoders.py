"""The user's own way from outputs to what a metric compares: boxes, texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from trt_mpq.errors import MetricError
from trt_mpq.runtime.base import Arrays
from trt_mpq.runtime.user_code import UserCodeError, import_user_function, running_user_code

_T = TypeVar("_T")


def users_decoder(name: str, read: Callable[[Any], _T], counted: str) -> Callable[[Arrays], list[_T]]:
    """The function `module:function` of outputs [n, ...] by name, which gives something for every sample.

    Args:
        name: How it is called.
        read: Makes of what it gives for a sample what a metric takes.
        counted: How messages count that, with `found` and `wanted` in braces.

    Raises:
        MetricError: There is no such function; later, it raises an error or gives too few or too many.
    """
    try:
        function = import_user_function(name, "of outputs")
    except UserCodeError as error:
        raise MetricError(f"decoder {name} {error}") from error

    def decode(outputs: Arrays) -> list[_T]:
        try:
            with running_user_code():
                decoded = [read(one) for one in function(outputs)]
        except UserCodeError as error:
            raise MetricError(f"decoder {name} {error}") from error
        samples = len(next(iter(outputs.values())))
        if len(decoded) != samples:
            raise MetricError(f"decoder {name} returned {counted.format(found=len(decoded), wanted=samples)}")
        return decoded

    return decode
