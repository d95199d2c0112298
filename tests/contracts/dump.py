"""Runs alone in a fresh interpreter: imports a TensorRT binding and prints its whole public API as JSON.

Usage: `python -I -S dump.py FOLDER PACKAGE`, where FOLDER holds the unpacked PACKAGE, such as `tensorrt_bindings`. The
output has two parts, `facts` in the format of `tests/facts/` and `details` in the format of `details-*.json`.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from typing import Any

PLAIN_OPERATORS = {"__str__", "__repr__", "__eq__", "__ne__", "__del__", "__nonzero__"}
SPELLINGS = (
    ("tensorrt_bindings.tensorrt.", ""),
    ("tensorrt_rtx_bindings.tensorrt_rtx.", ""),
    ("collections.abc.Buffer", "typing_extensions.Buffer"),  # pybind11 writes the one or the other by Python's version
    ("types.CapsuleType", "typing_extensions.CapsuleType"),
)


def signatures(name: str, documented: Any) -> list[str]:
    """The signature lines pybind11 puts into a docstring, one per overload."""
    lines = (line.strip() for line in (documented.__doc__ or "").splitlines())
    found = [re.sub(r"^\d+\. ", "", line) for line in lines if re.match(rf"(\d+\. )?{re.escape(name)}\(", line)]
    if len(found) > 1:
        found = [line for line in found if not line.endswith("(*args, **kwargs)")]
    for spelling, ours in SPELLINGS:
        found = [line.replace(spelling, ours) for line in found]
    return found


def is_enum(kind: Any) -> bool:
    return inspect.isclass(kind) and hasattr(kind, "__members__")


def member(kind: type, name: str) -> str | list[str]:
    found = inspect.getattr_static(kind, name)
    if isinstance(found, property):
        return "property" if found.fset else "property (read-only)"
    return signatures(name, getattr(kind, name)) or "attribute"


def class_facts(kind: type) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    values: list[str] = list(getattr(kind, "__members__", ()))
    hidden = {*values, "name", "value"} if is_enum(kind) else set()
    members = {name: member(kind, name) for name in dir(kind) if not name.startswith("_") and name not in hidden}
    if is_enum(kind):
        facts["enum"] = values
    if members:
        facts["members"] = members
    return facts


def property_type(found: property) -> str:
    match = re.search(r"-> (.+)", found.fget.__doc__ or "")
    text = match.group(1).strip() if match else "object"
    for spelling, ours in SPELLINGS:
        text = text.replace(spelling, ours)
    return text


def class_details(kind: type) -> dict[str, Any]:
    operators = {
        name: lines
        for name, value in vars(kind).items()
        if name.startswith("__") and callable(value) and name not in PLAIN_OPERATORS
        if (lines := signatures(name, value))
    }
    found = {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}
    properties = {name: property_type(value) for name, value in found.items() if isinstance(value, property)}
    details: dict[str, Any] = {
        "bases": [base.__name__ for base in kind.__bases__ if base.__module__.startswith("tensorrt_")],
        "enums": {name: list(value.__members__) for name, value in vars(kind).items() if is_enum(value)},
        "operators": {} if is_enum(kind) else operators,
        "properties": {} if is_enum(kind) else properties,
    }
    return {key: value for key, value in details.items() if value}


def dump(module: Any) -> dict[str, Any]:
    names = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    classes = {name: value for name, value in sorted(names.items()) if inspect.isclass(value)}
    functions = {
        name: signatures(name, value) or [f"{name}{inspect.signature(value)}"]
        for name, value in sorted(names.items())
        if callable(value) and not inspect.isclass(value) and not name.startswith("common_")
    }
    constants = {name: str(value) for name, value in sorted(names.items()) if type(value) in classes.values()}
    details = {name: found for name, kind in classes.items() if (found := class_details(kind))}
    return {
        "facts": {
            "version": module.__version__,
            "classes": {name: class_facts(kind) for name, kind in classes.items()},
        },
        "details": {"classes": details, "functions": functions, "constants": constants},
    }


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    sys.stdout.write(json.dumps(dump(__import__(sys.argv[2]))))
