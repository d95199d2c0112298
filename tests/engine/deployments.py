"""Runs that were searched, and the settings and commands that take them to an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.runs import Recorder, start
from trt_mpq.report.data import Report

QUICK_TIMING = {"rounds": 4, "round_ms": 2.0, "warm_up_ms": 1.0}
HERE = {"engine": QUICK_TIMING, "batch": 8}
MODELLED = {**HERE, "latency": "modelled"}

QUICK_FLAGS = ("--rounds", "4", "--round-ms", "2", "--warm-up-ms", "1")

Command = Callable[..., str]
"""Runs trt-mpq and gives what it prints."""


@dataclass(frozen=True)
class Searched:
    """A run folder that was searched without a GPU, and what it was made from."""

    folder: Path
    files: dict[str, str]


def report_of(searched: Searched, recorder: Recorder | None = None, **settings: object) -> Report:
    return start(searched.files, searched.folder, recorder, **{**MODELLED, **settings}).report()
