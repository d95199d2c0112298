"""The signatures of the facts, and calls checked against them the way pybind11 does."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

_REQUIRED = object()


class MismatchError(Exception):
    """The arguments of a call do not fit an overload."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, its type as the facts spell it, and the text of its default (None: required)."""

    name: str
    annotation: str
    default: str | None


@dataclass(frozen=True)
class Signature:
    """One overload."""

    text: str
    name: str
    static: bool
    parameters: tuple[Parameter, ...]

    def bind(self, api: SimpleNamespace, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, converted; raises MismatchError."""
        if len(args) > len(self.parameters) or set(kwargs) - {p.name for p in self.parameters[len(args) :]}:
            raise MismatchError
        given = dict(zip((p.name for p in self.parameters), args, strict=False)) | dict(kwargs)
        bound = {}
        for parameter in self.parameters:
            if parameter.name in given:
                bound[parameter.name] = convert(api, parameter.annotation, given[parameter.name])
            elif parameter.default is None:
                raise MismatchError
            else:
                bound[parameter.name] = _default(api, parameter.default)
        return bound


@cache
def parse(text: str) -> Signature:
    """The signature that `text` spells, as in `set_flag(self: IBuilderConfig, flag: BuilderFlag) -> None`."""
    name, _, rest = text.partition("(")
    arguments = rest[: rest.rindex(") ->")]
    parameters = tuple(_parameter(part) for part in _split(arguments))
    bound = bool(parameters) and parameters[0].name in ("self", "arg0") and not text.startswith("parse(text")
    return Signature(text, name, not bound, parameters[1:] if bound else parameters)


def caller(
    api: SimpleNamespace, owner: str, texts: list[str], implementation: Callable[..., Any] | None
) -> Callable[..., Any]:
    """A function that checks its arguments against `texts` and calls `implementation` with them by name."""
    signatures = [parse(text) for text in texts]
    name = signatures[0].name

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        for signature in signatures:
            try:
                bound = signature.bind(api, args, kwargs)
            except MismatchError:
                continue
            if implementation is None:
                raise NotImplementedError(f"the fake TensorRT {api.__version__} does not implement {owner}.{name}")
            return implementation(self, **bound)
        listed = "\n".join(f"    {number}. {text}" for number, text in enumerate(texts, 1))
        kind = "constructor" if name == "__init__" else "function"
        given = ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())])
        raise TypeError(
            f"{name}(): incompatible {kind} arguments. The following argument types are supported:\n{listed}\n\n"
            f"Invoked with: {given}"
        )

    call.__name__ = name
    call.__qualname__ = f"{owner}.{name}"
    return call


def convert(api: SimpleNamespace, annotation: str, value: Any) -> Any:
    """`value` as a parameter of type `annotation` takes it; raises MismatchError."""
    kind = annotation.rpartition("::")[2].rpartition(".")[2]
    if kind in ("int", "SupportsInt"):
        if isinstance(value, float) or not hasattr(value, "__index__"):
            raise MismatchError
        return value.__index__()
    if kind in ("float", "SupportsFloat"):
        if isinstance(value, str) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
            raise MismatchError
        return float(value)
    if kind in _EXACT:
        return _instance(value, _EXACT[kind])
    if kind in ("buffer", "Buffer"):
        try:
            return memoryview(value)
        except TypeError:
            raise MismatchError from None
    if kind == "Severity":
        return _instance(value, api.ILogger.Severity)
    if kind == "Dims":
        return _dims(api, value)
    expected = getattr(api, kind, None)
    if not isinstance(expected, type) or kind == "Weights":
        return value
    return value if value is None and not hasattr(expected, "__members__") else _instance(value, expected)


_EXACT: dict[str, Any] = {"str": str, "bool": bool, "tuple": tuple, "list": list}


def _instance(value: Any, expected: Any) -> Any:
    if not isinstance(value, expected):
        raise MismatchError
    return value


def _dims(api: SimpleNamespace, value: Any) -> Any:
    if isinstance(value, api.Dims):
        return value
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise MismatchError
    items = list(value)
    if not all(hasattr(item, "__index__") for item in items):
        raise MismatchError
    return api.Dims(items)


def _default(api: SimpleNamespace, text: str) -> Any:
    enum = re.fullmatch(r"<(\w+)\.(\w+): \d+>", text)
    if enum is None:
        return ast.literal_eval(text)
    owner = api.ILogger.Severity if enum[1] == "Severity" else getattr(api, enum[1])
    return getattr(owner, enum[2])


def _parameter(text: str) -> Parameter:
    declaration, equals, default = text.partition(" = ")
    name, _, annotation = declaration.partition(":")
    return Parameter(name.strip(), annotation.strip(), default.strip() if equals else None)


def _split(arguments: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, character in enumerate(arguments):
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            parts.append(arguments[start:position])
            start = position + 1
    return [part for part in [*parts, arguments[start:]] if part.strip()]
