"""Reads the signatures pybind11 writes into docstrings, and translates their types into Python.

They are nearly Python. What is not: C++ names, defaults such as `<DataType.FLOAT: 0>`, parameters called `in`, bare
generics. Where the binding takes more than its signature says (a list for `Dims`, an array for `Weights`, any object
for a raw pointer), a parameter's type says so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

GENERICS = {
    "List": "list",
    "Tuple": "tuple",
    "list": "list",
    "tuple": "tuple",
    "Iterable": "collections.abc.Iterable",
    "collections.abc.Callable": "collections.abc.Callable",
    "collections.abc.Iterable": "collections.abc.Iterable",
    "collections.abc.Iterator": "collections.abc.Iterator",
    "collections.abc.Sequence": "collections.abc.Sequence",
}
BARE = {"tuple": "tuple[Any, ...]", "collections.abc.Callable": "collections.abc.Callable[..., Any]"}
PLAIN = {name: name for name in ("None", "bytes", "float", "int", "memoryview", "slice", "str")} | {
    "bool": "builtins.bool",  # `tensorrt.bool` is a DataType
    "buffer": "typing_extensions.Buffer",
    "capsule": "typing_extensions.CapsuleType",
    "numpy.ndarray": "np.ndarray[Any, Any]",
    "object": "Any",  # something the binding has no type for
    "typing.SupportsFloat": "float",
    "typing.SupportsInt": "int",
    "typing_extensions.Buffer": "typing_extensions.Buffer",
    "typing_extensions.CapsuleType": "typing_extensions.CapsuleType",
}
ACCEPTED = {
    "Dims": "Dims | collections.abc.Sequence[int]",
    "Permutation": "Permutation | collections.abc.Sequence[int]",
    "Weights": "Weights | np.ndarray[Any, Any]",
    "float": "typing.SupportsFloat",
    "int": "typing.SupportsInt",
    "list": "collections.abc.Sequence",
    "typing_extensions.CapsuleType": "Any",  # a raw pointer: a capsule, None or any object of the binding
}
"""What a parameter takes, where that is more than its translated type."""

RENAMED = {"IBuilder": "Builder", "IEngineInspector": "EngineInspector", "IParserError": "ParserError"}
"""C++ classes that have another name in Python."""
UNBOUND = {"QuickPluginCreationRequest"}
"""C++ classes that signatures name and Python lacks."""


@dataclass(frozen=True)
class Parameter:
    """One parameter; the type and the default are as written, None where there is none."""

    name: str
    type: str | None
    default: str | None


@dataclass(frozen=True)
class Signature:
    """One overload."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str | None


def parse_signature(text: str) -> Signature:
    """Take `name(self: A, b: int = 0) -> B` apart.

    Raises:
        ValueError: The text is no signature.
    """
    match = re.fullmatch(r"(\w+)\((.*)\)(?: -> (.+))?", text)
    if match is None:
        raise ValueError(f"not a signature: {text!r}")
    name, inside, returns = match.groups()
    return Signature(name, tuple(_parameter(part) for part in _split(inside)), returns)


def _split(text: str) -> Iterator[str]:
    """Split at the commas outside every bracket."""
    depth, start = 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    if text[start:].strip():
        yield text[start:].strip()


def _parameter(text: str) -> Parameter:
    declared, _, default = text.partition(" = ")
    name, _, kind = declared.partition(": ")
    return Parameter(name.strip(), kind.strip() or None, default.strip() or None)


class Types:
    """Translates types, given the classes one TensorRT version has."""

    def __init__(self, classes: Collection[str]) -> None:
        self.classes = frozenset(classes)

    def returned(self, text: str | None) -> str:
        """The annotation of what a call or a property gives.

        Raises:
            ValueError: A name is neither Python's nor one of TensorRT's classes.
        """
        return self._annotation(text, accepted=False)

    def accepted(self, text: str | None) -> str:
        """The annotation of what a parameter or an assignment takes; raises as `returned` does."""
        return self._annotation(text, accepted=True)

    def _annotation(self, text: str | None, accepted: bool) -> str:
        if text is None:
            return "Any"
        text = re.sub(r"std::vector<.*>|detail::accessor<.*>", "object", text)
        text = re.sub(r"(?:nvinfer1|nvonnxparser)::(?:v_\d_\d::)?([\w:]+)", _python_name, text)
        return self._translate(ast.parse(text, mode="eval").body, accepted)

    def _translate(self, node: ast.expr, accepted: bool) -> str:
        if isinstance(node, ast.Subscript):
            generic = GENERICS[ast.unparse(node.value)]
            inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            arguments = ", ".join(self._translate(each, accepted) for each in inside)
            return f"{ACCEPTED.get(generic, generic) if accepted else generic}[{arguments}]"
        name = ast.unparse(node)
        if name.split(".")[0] in self.classes:
            return ACCEPTED.get(name, name) if accepted else name
        if name in GENERICS:
            return BARE.get(GENERICS[name], f"{GENERICS[name]}[Any]")
        if name in PLAIN:
            return ACCEPTED.get(PLAIN[name], PLAIN[name]) if accepted else PLAIN[name]
        raise ValueError(f"no Python type is known for {name!r}")


def _python_name(match: re.Match[str]) -> str:
    name = match.group(1).replace("::", ".")
    return "object" if name in UNBOUND else RENAMED.get(name, name)
