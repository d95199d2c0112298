"""The pretended device of this process, as `fake.json` beside the packages describes it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from trt_fake.behaviour import Behaviour
from trt_fake.clock import Clock
from trt_fake.memory import DeviceMemory

FOLDER = Path(__file__).parent.parent


@cache
def configuration() -> dict[str, Any]:
    """The content of `fake.json`."""
    return dict(json.loads((FOLDER / "fake.json").read_text()))


@cache
def behaviour() -> Behaviour:
    """How the device behaves."""
    fields = configuration()["behaviour"]
    return Behaviour(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


@cache
def memory() -> DeviceMemory:
    """The device memory of this process."""
    return DeviceMemory(behaviour().memory_mib << 20)


@cache
def clock() -> Clock:
    """The simulated time of this process."""
    return Clock(behaviour())
