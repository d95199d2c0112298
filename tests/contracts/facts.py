"""The committed facts: what each supported TensorRT's Python API has.

`tests/facts/tensorrt-*.json` lists classes, enum members, methods with their signatures and properties. The file
`details-*.json` beside this module adds what a type checker needs on top (bases, constructors and operators, types of
properties, module-level functions); it is recorded from the real bindings by `python -m tests.contracts.bindings`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

VERSIONS = ("8.6", "10.16", "11.4", "rtx-1.7")
RECORDED = ("10.16", "11.4", "rtx-1.7")
"""Versions whose binding can be imported without TensorRT's libraries; 8.6 borrows the details of 10.16."""

HERE = Path(__file__).parent


def facts_path(version: str) -> Path:
    """Where the facts of one version are kept."""
    return HERE.parent / "facts" / f"tensorrt-{version}.json"


def details_path(version: str) -> Path:
    """Where the recorded details of one version are kept."""
    return HERE / f"details-{version}.json"


@dataclass(frozen=True)
class Api:
    """One TensorRT version's Python API."""

    version: str
    classes: dict[str, dict[str, Any]]
    details: dict[str, Any]

    def members(self, name: str) -> frozenset[str]:
        """Names a class or an enum has."""
        entry = self.classes[name]
        return frozenset(entry.get("enum", ())) | frozenset(entry.get("members", ()))

    def has(self, chain: str) -> bool:
        """Whether `Name`, `Name.member` or `ILogger.Severity.ERROR` exists, read from the module `tensorrt`."""
        name, _, rest = chain.partition(".")
        if name not in self.classes:
            return name in self.constants or name in self.details["functions"] or name == "__version__"
        member, _, deeper = rest.partition(".")
        if member == "Severity" and deeper:
            return deeper.partition(".")[0] in self.members(name)  # a nested enum whose values the class repeats
        return not member or member.startswith("__") or member in self.members(name)

    @property
    def constants(self) -> dict[str, str]:
        """Enum members with a short name at the module, such as `DataType.HALF` by `float16`."""
        recorded: dict[str, str] = self.details["constants"]
        return {
            name: value
            for name, value in recorded.items()
            if value.partition(".")[2] in self.classes[value.partition(".")[0]]["enum"]
        }


@cache
def api(version: str) -> Api:
    """The facts and the details of a version."""
    details = details_path(version if version in RECORDED else "10.16")
    return Api(version, json.loads(facts_path(version).read_text())["classes"], json.loads(details.read_text()))
