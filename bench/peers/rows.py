"""Rows of the comparison: what was asked of a peer and what came of it, one JSON file each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.peers.judge import Verdict


@dataclass(frozen=True)
class Job:
    """One thing asked of one peer.

    Attributes:
        peer: Name of the peer.
        model: Name of the model.
        target: Least share of the FP32 score, None for a peer that takes no target.
        precision: The 8-bit format.
        calibration_samples: How many it gets to calibrate.
        evaluation_samples: How many it gets to evaluate, and is judged on.
    """

    peer: str
    model: str
    target: float | None
    precision: str
    calibration_samples: int
    evaluation_samples: int

    @property
    def slug(self) -> str:
        """A name for its files."""
        samples = f"{self.calibration_samples}-{self.evaluation_samples}"
        return f"{self.model}-{samples}-{self.peer}-{self.precision}-{self.target or 'untargeted'}"


@dataclass(frozen=True)
class Row:
    """What came of a job.

    Attributes:
        job: What was asked.
        failure: Why nothing was delivered, or None.
        seconds: Wall time of the peer's process, from start to delivered file.
        peak_mib: Largest resident memory of its processes together.
        evaluations: Samples it ran to score models, in passes over the evaluation set.
        verdict: What the delivered file is worth.
        versions: What the peer ran on.
        notes: What a reader should know.
    """

    job: Job
    failure: str | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    evaluations: float | None = None
    verdict: Verdict | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def row_to_json(row: Row) -> str:
    """The row as indented JSON text."""
    return json.dumps(asdict(row), indent=2) + "\n"


def row_from_json(text: str) -> Row:
    """The row that `row_to_json` wrote."""
    content = json.loads(text)
    verdict = content["verdict"]
    if verdict is not None:
        verdict = Verdict(**{**verdict, "remarks": tuple(verdict["remarks"])})
    return Row(**{**content, "job": Job(**content["job"]), "verdict": verdict, "notes": tuple(content["notes"])})


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Every row in a folder, in the order of the file names."""
    return tuple(row_from_json(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")))
