"""The names of a real TensorRT, recorded, as attributes without behaviour."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

_FACTS = Path(__file__).parents[1] / "facts"


def recorded(version: str) -> SimpleNamespace:
    """A stand-in for the module: classes and enums with exactly the members the version has, enum members as ints."""
    facts = json.loads((_FACTS / f"tensorrt-{version}.json").read_text())
    classes = {
        name: SimpleNamespace(**{member: index for index, member in enumerate(_members(entry))})
        for name, entry in facts["classes"].items()
    }
    return SimpleNamespace(__version__=facts["version"], **classes)


def _members(entry: dict[str, list[str]]) -> list[str]:
    return list(entry.get("enum") or entry.get("members", ()))
