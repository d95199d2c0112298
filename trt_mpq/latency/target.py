"""Device models: what `--device` names. One TOML file per GPU, every number with source and date."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trt_mpq._data import data_folder, load_toml
from trt_mpq.errors import SettingsError
from trt_mpq.types import Precision, Target
from trt_mpq.types.target import LatencyError

RTX_SM = {
    75: "RTX 20, T4",
    80: "A100, A30",
    86: "RTX 30, A10, A40",
    89: "RTX 40, L4, L40S",
    120: "RTX 50, RTX PRO Blackwell",
    121: "GB10",
}
"""Compute capabilities, times ten, that TensorRT for RTX compiles for, and GPUs that have them.

Neither Hopper (9.0) nor B200 (10.0) nor any Jetson is among them.
"""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Number(_Strict):
    value: Annotated[float, Field(gt=0)]
    source: str
    date: datetime.date

    @field_validator("source")
    @classmethod
    def _is_cited(cls, source: str) -> str:
        if not source.startswith(("assumption: ", "fitted: ")) and "https://" not in source:
            raise ValueError("must hold the address of a public page or start with 'assumption: ' or 'fitted: '")
        return source

    @property
    def citation(self) -> str:
        return f"{self.source} ({self.date.isoformat()})"


class _Fraction(_Number):
    value: Annotated[float, Field(gt=0, le=1)]


class _Count(_Number):
    value: Annotated[int, Field(gt=0)]


class _Error(_Strict):
    times: Annotated[float, Field(gt=0)]
    ratio: Annotated[float, Field(gt=0)]
    points: Annotated[int, Field(gt=0)]
    devices: str
    source: str
    date: datetime.date

    def error(self) -> LatencyError:
        return LatencyError(self.times, self.ratio, self.points, self.devices)


class _TargetFile(_Strict):
    name: str
    description: str
    sm: _Count
    multiprocessors: _Count
    clock_ghz: _Number
    peak_tops: dict[Precision, _Number]
    bandwidth_gb_s: _Number
    l2_mb: _Number
    launch_us: _Number
    compute_efficiency: _Fraction
    eight_bit_efficiency: _Fraction
    memory_efficiency: _Fraction
    board_power_w: _Number | None = None
    idle_share: _Fraction | None = None
    error: _Error | None = None

    @model_validator(mode="after")
    def _precisions_fit_the_gpu(self) -> _TargetFile:
        missing = {Precision.FP32, Precision.FP16} - set(self.peak_tops)
        if missing:
            raise ValueError(f"peak_tops lacks {', '.join(sorted(missing))}")
        for precision in self.peak_tops:
            if (other := precision.arithmetic(Precision.FP16)) is not precision:
                raise ValueError(f"peak_tops holds {precision}, which has no rate of its own but that of {other}")
            if self.sm.value < precision.spec.first_sm:
                raise ValueError(f"peak_tops holds {precision}, which needs sm {precision.spec.first_sm} or later")
        return self

    def target(self) -> Target:
        scalars = {name: number for name in _SCALARS if (number := getattr(self, name)) is not None}
        rates = {f"peak_tops.{precision}": number for precision, number in self.peak_tops.items()}
        return Target(
            name=self.name,
            description=self.description,
            peak_tops={precision: number.value for precision, number in self.peak_tops.items()},
            **{name: number.value for name, number in scalars.items()},
            sources={key: number.citation for key, number in {**scalars, **rates}.items()},
            error=None if self.error is None else self.error.error(),
        )


_SCALARS = tuple(
    name
    for name, field in _TargetFile.model_fields.items()
    if field.annotation in (_Number, _Fraction, _Count, _Number | None, _Fraction | None)
)


def target_from_name(name_or_path: str) -> Target:
    """The device model called `name_or_path`, or read from it if it ends in ``.toml``.

    Raises:
        SettingsError: No such device, or the file is unreadable or breaks the schema of engines/README.md.
    """
    if name_or_path.endswith(".toml"):
        return _target_from_file(Path(name_or_path))
    names = sorted(path.stem for path in data_folder("targets").glob("*.toml"))
    if name_or_path not in names:
        raise SettingsError(f"unknown device '{name_or_path}': choose one of {', '.join(names)}, or give a .toml file")
    return _target_from_file(data_folder("targets") / f"{name_or_path}.toml")


def target_of_gpu(name: str) -> str | None:
    """The device model of a GPU by what its driver calls it, as in NVIDIA GeForce RTX 4090; None if none is for it."""
    called = re.sub(r"[^a-z0-9]+", "", name.lower())
    fitting = [path.stem for path in data_folder("targets").glob("*.toml") if _is_named(path.stem, called)]
    return max(fitting, key=len, default=None)


def require_power(target: Target) -> None:
    """Raise SettingsError unless the device file says what the GPU draws."""
    if target.board_power_w is None or target.idle_share is None:
        raise SettingsError(
            f"nothing is known of the energy of {target.name}: add board_power_w and idle_share to its file "
            "(engines/README.md), or choose another --objective"
        )


def _is_named(target: str, called: str) -> bool:
    """Whether every word of a device model's name is in what a GPU is called, and no digit goes on behind it."""
    numbered = (rf"{word}(?!\d)" if word[-1].isdigit() else word for word in target.split("-"))
    return all(re.search(pattern, called) for pattern in numbered)


def _target_from_file(path: Path) -> Target:
    content = load_toml(path)
    try:
        return _TargetFile.model_validate(content).target()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"] if key != "[key]") or "the file"
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{path}: {where}: {reason}; engines/README.md describes the schema") from error
