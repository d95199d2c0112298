"""One case: a damaged copy of the sound inputs, a command, and what was wrong with how it ended."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from tests.fuzz.damage import damaged
from tests.fuzz.inputs import TARGETS
from trt_mpq.artifacts.files import TEMPORARY
from trt_mpq.cli import app


@dataclass(frozen=True)
class Outcome:
    """What was run, and what was wrong with it; nothing if `fault` is empty."""

    seed: int
    command: str
    file: str
    fault: str


def run_case(seed: int, sound: Path, target: int | None = None, keep: Path | None = None) -> Outcome:
    """Damage a file of a copy of the folder `sound`, as `seed` says, and run a command; `keep` keeps faulty ones."""
    draw = random.Random(seed)
    chosen = TARGETS[draw.randrange(len(TARGETS)) if target is None else target]
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        os.chdir(here)
        shutil.copytree(sound, here, dirs_exist_ok=True)
        file = draw.choice(sorted(here.glob(chosen.file))) if "*" in chosen.file else here / chosen.file
        while file.is_dir():
            file = draw.choice(sorted(file.iterdir()) or [here / "net.onnx"])
        file.write_bytes(damaged(file.read_bytes(), file.name, draw))
        before = _files(here)
        done = CliRunner().invoke(app, list(chosen.command))
        sentences = range(2) if chosen.command[0] == "lint" else (1,)  # findings are exit code 2 and go to stdout
        fault = _fault(done.exit_code, done.stderr, sentences, before, _files(here))
        if fault and keep is not None:
            shutil.copytree(here, keep / str(seed), dirs_exist_ok=True)
        return Outcome(seed, " ".join(chosen.command[:2]), str(file.relative_to(here)), fault)


def _fault(code: int, said: str, sentences: Sequence[int], before: dict[str, int], after: dict[str, int]) -> str:
    last = (said.strip().splitlines() or [""])[-1]
    if code not in (0, 2) or "Traceback" in said:
        return f"exit code {code}: {last[:300]}"
    if code == 2 and said.count("error: ") not in sentences:
        return f"not one sentence: {last[:300]}"
    outside = {file for file, size in after.items() if before.get(file) != size and not file.startswith(("new", "run"))}
    if outside:
        return f"written outside the run folder: {sorted(outside)[:3]}"
    left = [file for file in after if TEMPORARY in file and file not in before]
    return f"left behind: {left[:3]}" if left else ""


def _files(folder: Path) -> dict[str, int]:
    return {
        os.path.relpath(os.path.join(root, file), folder): os.stat(os.path.join(root, file)).st_mtime_ns  # noqa: PTH118, PTH116
        for root, _, files in os.walk(folder)
        for file in files
    }
