"""Rows of the corpus: which file was tried and what came of it, one JSON file each, so that a run can be stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.corpus.trial import Lowered, Outcome
from bench.peers.measure import Measured, measure

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 900.0
FORMATS = ("int8", "fp8")
THROUGH, NOT_COMPILED, REFUSED, FAILED, NOTHING = "through", "not compiled", "refused", "failed", "nothing to quantize"
NVIDIA, NOT_EXPORTED = "NVIDIA refuses the original", "not exported"


@dataclass(frozen=True)
class Row:
    """One file that was tried.

    Attributes:
        name: What it is called: an architecture, or a package and a file.
        kind: What it is for.
        source: How it came to be: exporter and opset, or the package's version.
        not_exported: Why there is no file.
        outcome: What became of it.
        failure: How the trial itself ended, if it ended without an outcome: a defect of ours, or out of time.
        seconds: Of the trial, export left out.
        peak_mib: Its largest resident memory.
        commit: Of trt-mpq.
        date: When it was tried.
        versions: Packages that the file came from.
    """

    name: str
    kind: str
    source: str
    not_exported: str | None = None
    outcome: Outcome | None = None
    failure: str | None = None
    seconds: float = 0.0
    peak_mib: float = 0.0
    commit: str = ""
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One word for what came of it, in the order of what is looked at first."""
        if self.not_exported is not None:
            return NOT_EXPORTED
        if self.outcome is None:
            return FAILED
        if self.outcome.original != "ok":
            return NVIDIA
        if self.outcome.refused is not None:
            return REFUSED
        if not any(lowered.groups for lowered in self.outcome.formats.values()):
            return NOTHING
        if any(map(wrong, self.outcome.formats.values())):
            return FAILED
        compiled = all(said == "ok" for lowered in self.outcome.formats.values() for said in lowered.engines.values())
        return THROUGH if compiled else NOT_COMPILED

    @property
    def why(self) -> str:
        """The words behind the verdict; empty where it went through."""
        if self.outcome is None:
            return self.not_exported or self.failure or ""
        if self.verdict in (NVIDIA, REFUSED):
            return self.outcome.original if self.verdict == NVIDIA else self.outcome.refused or ""
        lowered = self.outcome.formats.items()
        said = [f"{name}: {words}" for name, one in lowered if (words := wrong(one))]
        said += [
            f"{name}, {sm}: {words}" for name, one in lowered for sm, words in one.engines.items() if words != "ok"
        ]
        return said[0] if said else ""


def wrong(lowered: Lowered) -> str:
    """What is wrong with the files of a format; empty if nothing."""
    if lowered.failure or lowered.valid or lowered.interface:
        return lowered.failure or lowered.valid or f"inputs and outputs are {lowered.interface}"
    return "" if lowered.agrees else f"typed.onnx is at {lowered.typed_db} dB, the reference at {lowered.reference_db}"


def tried(row: Row, folder: Path, timeout_s: float = TIMEOUT_S) -> Row:
    """`row` with what becomes of the file in `folder`, tried in a process of its own."""
    command = [sys.executable, "-m", "bench.corpus.trial", str(folder)]
    measured = measure(command, ROOT, folder / "trial.log", timeout_s, environment(), of_cpu=True)
    row = replace(row, seconds=round(measured.seconds, 1), peak_mib=round(measured.peak_mib))
    if measured.code != 0:
        return replace(row, failure=last_words(measured, folder / "trial.log", timeout_s))
    return replace(row, outcome=_outcome(json.loads((folder / "outcome.json").read_text(encoding="utf-8"))))


def environment() -> dict[str, str]:
    """Variables of the processes that are started: they find this project."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def last_words(measured: Measured, log: Path, timeout_s: float) -> str:
    """How a process ended: out of time, or what it said last."""
    if measured.code is None:
        return f"not done after {timeout_s:.0f} s of CPU time"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit code {measured.code}"


def stamped(row: Row) -> Row:
    """`row` with today's date and the commit it was made from."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return replace(row, commit=commit.stdout.strip(), date=f"{datetime.now(timezone.utc):%Y-%m-%d}")


def to_json(row: Row) -> str:
    return json.dumps(asdict(row), indent=1) + "\n"


def from_json(content: Mapping[str, Any]) -> Row:
    outcome = content["outcome"]
    return Row(**{**content, "outcome": outcome and _outcome(outcome)})


def _outcome(content: Mapping[str, Any]) -> Outcome:
    formats = {name: Lowered(**one) for name, one in content["formats"].items()}
    return Outcome(**{**content, "formats": formats, "operators": tuple(content["operators"])})


def read_rows(folder: Path) -> list[Row]:
    """Every row in `folder`, by name."""
    return [from_json(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
