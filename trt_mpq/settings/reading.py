"""Settings from what a user wrote: options over a job file or the settings of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trt_mpq._data import load_toml
from trt_mpq.errors import SettingsError
from trt_mpq.settings.engine_options import EngineOptions
from trt_mpq.settings.options import Settings
from trt_mpq.settings.paths import anchored
from trt_mpq.types import Precision

_TARGETS = ("target_accuracy", "max_loss", "target_sqnr", "target_latency", "target_size")


def settings_from(fields: dict[str, Any], origin: str) -> Settings:
    """Validate `fields`; `origin` says in an error where they came from.

    Raises:
        SettingsError: A field is unknown or its value is not allowed.
    """
    try:
        return Settings(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][: 2 if first["loc"][0] == "engine" else 1])
        raise SettingsError(f"{origin}: {where}: {_reason(first)}") from error


def fields_from_job(path: Path) -> dict[str, Any]:
    """The fields a job file sets; a relative `model` and data paths are taken relative to the job file's folder.

    Raises:
        SettingsError: The file is missing or is no TOML.
    """
    return anchored(dict(load_toml(path)), path.parent)


def overridden(fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`fields` with what was `given` instead; of the engine's options only those that were given change.

    A target that is given replaces the stored one, whatever it was for; raises SettingsError if two are.
    """
    targets = [name for name in _TARGETS if given.get(name) is not None]
    if len(targets) > 1:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in targets)
        raise SettingsError(f"{options} exclude each other: give one of them")
    if targets:
        fields = {name: value for name, value in fields.items() if name not in _TARGETS}
    stored = fields.get("engine")
    if "engine" in given and isinstance(stored, dict):
        given = {**given, "engine": {**stored, **given["engine"]}}
    return {**fields, **given}


def _reason(error: Any) -> str:
    if error["type"] == "missing":
        return "is needed and was not given"
    if error["type"] == "enum":
        return f"got {error['input']!r}, choose from {', '.join(p.value for p in Precision if p is not Precision.FP32)}"
    if error["type"] == "extra_forbidden":
        known = EngineOptions.model_fields if error["loc"][0] == "engine" else Settings.model_fields
        return f"unknown setting; known are {', '.join(known)}"
    return f"{error['msg'].removeprefix('Value error, ')} (got {error['input']!r})"
