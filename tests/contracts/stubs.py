"""Typed stubs of the package `tensorrt`, one per supported version, written from the facts.

Where TensorRT documents that a call fails by returning None, the stub says so, which the binding's signature does not.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.contracts.facts import RECORDED, Api
from tests.contracts.signatures import Parameter, Signature, Types, parse_signature

HEADER = """\
# mypy: disable-error-code="override, overload-cannot-match"
import builtins
import collections.abc
import typing
from typing import Any, ClassVar, overload

import numpy as np
import typing_extensions

__version__: str

class _Enum:
    def __init__(self, value: typing.SupportsInt) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> builtins.bool: ...
"""
"""What every stub starts with; the binding itself overrides as it likes and has overloads that hide one another."""

NULLABLE = {
    "Builder": {"build_engine", "build_engine_with_config", "build_serialized_network"},
    "IBuilderConfig": {"create_timing_cache", "get_timing_cache"},
    "ICudaEngine": {"create_execution_context"},
    "Runtime": {"deserialize_cuda_engine"},
}
"""Methods that return None when they fail; so does every `INetworkDefinition.add_*`."""
BUFFERS = {"IHostMemory"}
"""Classes that export the buffer protocol, which Python before 3.12 cannot ask a class for."""


def write_stub(api: Api, folder: Path) -> Path:
    """Write `tensorrt/__init__.pyi` below `folder`, and return its path."""
    stub = folder / "tensorrt" / "__init__.pyi"
    stub.parent.mkdir(parents=True)
    stub.write_text(stub_text(api))
    return stub


def stub_text(api: Api) -> str:
    """The stub of one version."""
    types = Types(api.classes)
    lines = [HEADER]
    for name in api.classes:
        lines += _Class(name, api, types).lines()
    lines += [f"{name}: {value.partition('.')[0]}" for name, value in api.constants.items()]
    for signatures in api.details["functions"].values():
        lines += _overloads([_function(parse_signature(text), types) for text in signatures])
    return "\n".join(lines) + "\n"


class _Class:
    """Writes one class of the stub."""

    def __init__(self, name: str, api: Api, types: Types) -> None:
        self.name = name
        self.types = types
        self.values: list[str] | None = api.classes[name].get("enum")
        self.borrowed = api.version not in RECORDED
        self.members: dict[str, Any] = api.classes[name].get("members", {})
        details = api.details["classes"].get(name, {})
        self.bases = ["_Enum"] if self.values is not None else self._bases(details.get("bases", ()))
        self.operators: dict[str, list[str]] = details.get("operators", {})
        self.properties: dict[str, str] = details.get("properties", {})
        # An interface that Python can construct is there to be derived from: TensorRT calls it, and passes no wider
        # types than it documents.
        self.called_back = name.startswith("I") and "__init__" in self.operators

    def lines(self) -> list[str]:
        """The class statement and its body."""
        body = list(self._body()) or ["..."]
        bases = f"({', '.join(self.bases)})" if self.bases else ""
        return [f"class {self.name}{bases}:", *(f"    {line}" for line in body)]

    def _bases(self, recorded: Sequence[str]) -> list[str]:
        """The recorded bases, or those whose name pybind11 left on the `self` of inherited methods."""
        selves = {
            parse_signature(member[0]).parameters[0].type
            for member in self.members.values()
            if isinstance(member, list)
        }
        found = recorded or sorted(kind for kind in selves if kind is not None)
        return [base for base in found if base in self.types.classes and base != self.name]

    def _body(self) -> Iterator[str]:
        if self.values is not None:
            yield from _values(self.name, self.values)
        attributes = [name for name, kind in self.members.items() if kind == "attribute" and name != "Severity"]
        if "Severity" in self.members and not self.bases:  # a nested enum whose values the class repeats
            yield "class Severity(_Enum):"
            yield from (f"    {line}" for line in _values(f"{self.name}.Severity", attributes))
            yield from (f"{value}: ClassVar[{self.name}.Severity]" for value in attributes)
        for name, kind in self.members.items():
            if isinstance(kind, list):
                yield from self._methods(name, kind)
            elif kind != "attribute":
                yield from self._property(name, writable=kind == "property")
        yield from self._operators()

    def _methods(self, name: str, signatures: Sequence[str]) -> list[str]:
        adds = self.name == "INetworkDefinition" and name.startswith("add_")
        suffix = " | None" if adds or name in NULLABLE.get(self.name, ()) else ""
        annotate = self.types.returned if self.called_back else self.types.accepted
        return _overloads([_method(parse_signature(text), self.types, annotate, suffix) for text in signatures])

    def _property(self, name: str, writable: bool) -> Iterator[str]:
        recorded = self.properties.get(name)
        try:
            returned, accepted = self.types.returned(recorded), self.types.accepted(recorded)
        except ValueError:
            if not self.borrowed:
                raise
            returned = accepted = "Any"  # a class of the version that the details were borrowed from
        unset = " | None" if writable and re.match("I[A-Z]", returned) else ""  # an interface that may be left unset
        yield "@property"
        yield f"def {name}(self) -> {returned}{unset}: ..."
        if writable:
            yield f"@{name}.setter"
            yield f"def {name}(self, value: {accepted}{unset}) -> None: ..."

    def _operators(self) -> Iterator[str]:
        for name, signatures in self.operators.items():
            yield from self._methods(name, signatures)
        if {"__getitem__", "__len__"} <= set(self.operators) and "__iter__" not in self.operators:
            by_index = (parse_signature(text) for text in self.operators["__getitem__"] if "slice" not in text)
            item = self.types.returned(next(by_index).returns)
            yield f"def __iter__(self) -> collections.abc.Iterator[{item}]: ..."
        if self.name in BUFFERS:
            yield "def __buffer__(self, flags: int, /) -> memoryview: ..."


def _values(name: str, values: Sequence[str]) -> list[str]:
    return [*(f"{value}: ClassVar[{name}]" for value in values), f"__members__: ClassVar[dict[str, {name}]]"]


def _overloads(definitions: Sequence[str]) -> list[str]:
    different = list(dict.fromkeys(definitions))  # C++ overloads may look alike in Python
    return different if len(different) == 1 else [line for text in different for line in ("@overload", text)]


def _method(signature: Signature, types: Types, annotate: Callable[[str | None], str], suffix: str) -> str:
    parameters = ["self", *_parameters(signature.parameters[1:], annotate)]
    return _definition(signature.name, parameters, types.returned(signature.returns) + suffix)


def _function(signature: Signature, types: Types) -> str:
    parameters = _parameters(signature.parameters, types.accepted)
    return _definition(signature.name, list(parameters), types.returned(signature.returns))


def _definition(name: str, parameters: Sequence[str], returns: str) -> str:
    return f"def {name}({', '.join(parameters)}) -> {returns}: ..."


def _parameters(parameters: Sequence[Parameter], annotate: Callable[[str | None], str]) -> Iterator[str]:
    last_required = max((place for place, each in enumerate(parameters) if each.default is None), default=-1)
    for place, parameter in enumerate(parameters):
        name = f"{parameter.name}_" if keyword.iskeyword(parameter.name) else parameter.name
        unset = " | None" if parameter.default == "None" else ""
        # Python forbids a default before a parameter without one; the binding does not.
        default = " = ..." if place > last_required else ""
        yield f"{name}: {annotate(parameter.type)}{unset}{default}"
