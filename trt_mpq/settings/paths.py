"""Paths in settings, which hold in any working directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FILES = ("model", "calib", "eval", "holdout", "latency", "preprocess")
"""Settings that may name a file."""


def anchored(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`fields` with every path that is relative to `folder` made to hold anywhere."""
    files: dict[str, Any] = {
        name: _located(fields[name], folder) for name in _FILES if isinstance(fields.get(name), (str, Path))
    }
    if isinstance(device := fields.get("device"), (str, list, tuple)):
        names = device.split(",") if isinstance(device, str) else device
        files["device"] = ",".join(_located(str(name).strip(), folder) for name in names)
    decode = fields.get("decode")
    if isinstance(decode, str) and decode.startswith("ctc:"):
        files["decode"] = f"ctc:{_located(decode.removeprefix('ctc:'), folder)}"
    if isinstance(engine := fields.get("engine"), dict):
        files["engine"] = {**engine, **_anchored_engine(engine, folder)}
    return {**fields, **files}


def _anchored_engine(engine: dict[str, Any], folder: Path) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    if isinstance(cache := engine.get("timing_cache"), (str, Path)):
        paths["timing_cache"] = str(folder / cache)
    if isinstance(plugins := engine.get("plugins"), (list, tuple)):
        paths["plugins"] = tuple(_located(plugin, folder) for plugin in plugins)
    return paths


def _located(value: str | Path, folder: Path) -> str:
    """`value`, a path with perhaps a `:split` behind it, as a path from `folder` if there is such a file."""
    name, colon, split = str(value).partition(":")
    return f"{folder / name}{colon}{split}" if (folder / name).exists() else str(value)
