"""Functions of a Python program as settings name them, so that what was done with one is not done again.

A function that any process can import is called `module:function`, as on the command line. Any other, of a notebook, a
lambda, a closure, is called by a name that holds a digest of what it computes by: its code, and the values and
functions that its code refers to. Where that cannot be told, as of an object that it closes over, the name is new in
every process, and what was scored with it is scored again there.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from trt_mpq.errors import SettingsError
from trt_mpq.runtime.user_code import given_functions, is_reference, keep_function

_DIGITS = 12
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))


class _Untold(Exception):  # noqa: N818 - no user sees it
    """What a function refers to has no content that could be compared."""


def name_of_function(function: Callable[..., Any]) -> str:
    """The name by which settings say `function`.

    Raises:
        SettingsError: It is no function.
    """
    if not callable(function):
        raise SettingsError(f"got an object of type {type(function).__name__} for a metric: give a name or a function")
    return _importable(function) or _kept(function) or keep_function(_own_name(function), function)


def _importable(function: Callable[..., Any]) -> str | None:
    """`module:function` if another process finds it so, else None."""
    module, name = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "")
    home = sys.modules.get(module)
    if module == "__main__" or getattr(home, "__file__", None) is None or getattr(home, name, None) is not function:
        return None
    return f"{module}:{name}" if is_reference(f"{module}:{name}") else None


def _kept(function: Callable[..., Any]) -> str | None:
    return next((name for name, kept in given_functions().items() if kept is function), None)


def _own_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name if name.isidentifier() else 'function'}_{_digest(function)}"


def _digest(function: Callable[..., Any]) -> str:
    digest = hashlib.sha256()
    try:
        for part in _parts(function, set()):
            digest.update(part)
    except _Untold:
        return secrets.token_hex(_DIGITS // 2)
    return digest.hexdigest()[:_DIGITS]


def _parts(value: Any, seen: set[int]) -> Iterator[bytes]:
    """What `value` computes by, piece by piece; raises _Untold. `seen` holds what was told before."""
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r};".encode()
    elif isinstance(value, ModuleType):
        yield f"module {value.__name__} {getattr(value, '__version__', '')};".encode()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"array {value.dtype} {value.shape};".encode() + value.tobytes()
    elif isinstance(value, Mapping | tuple | list):
        yield f"{type(value).__name__} {len(value)};".encode()
        for one in value.items() if isinstance(value, Mapping) else value:
            yield from _parts(one, seen)
    elif isinstance(value, frozenset):
        yield from sorted(b"".join(_parts(one, seen)) for one in value)
    elif isinstance(value, CodeType):
        yield from _code_parts(value, seen)
    elif isinstance(value, partial):
        yield from _parts((value.func, value.args, value.keywords), seen)
    elif name := _of_a_library(value):
        yield f"library {name};".encode()
    elif isinstance(value, FunctionType):
        yield from () if id(value) in seen else _function_parts(value, seen | {id(value)})
    else:
        raise _Untold


def _of_a_library(value: Any) -> str | None:
    """The name of a function or class that is found by it in a module, and not in the user's own session."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return name and f"{module}.{name}" if module in sys.modules and module != "__main__" and _found(value) else None


def _found(value: Any) -> bool:
    found: Any = sys.modules[value.__module__]
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _code_parts(code: CodeType, seen: set[int]) -> Iterator[bytes]:
    yield code.co_code
    yield from _parts((code.co_names, code.co_varnames[: code.co_argcount], code.co_consts), seen)


def _function_parts(function: FunctionType, seen: set[int]) -> Iterator[bytes]:
    used = sorted(set(_names(function.__code__)) & function.__globals__.keys())
    yield from _parts(function.__code__, seen)
    yield from _parts((function.__defaults__, function.__kwdefaults__), seen)
    yield from _parts([cell.cell_contents for cell in function.__closure__ or ()], seen)
    for name in used:
        yield name.encode()
        yield from _parts(function.__globals__[name], seen)


def _names(code: CodeType) -> Iterator[str]:
    """Names that the code, and code within it, looks up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
