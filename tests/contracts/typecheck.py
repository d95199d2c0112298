"""Runs the type checker over the code that calls TensorRT, once per supported version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.contracts.facts import HERE, VERSIONS, api
from tests.contracts.stubs import write_stub

ROOT = HERE.parent.parent
PRODUCT = ROOT / "trt_mpq" / "runtime" / "tensorrt"
SAMPLE = HERE / "sample.py"
WEAK_TYPING = {"constraints.py": ("8.6", "10.16")}
RTX = {"ahead_of_time.py": ("rtx-1.7",), "runtime_cache.py": ("rtx-1.7",)}
FOR_SOME = {**WEAK_TYPING, **RTX}
"""Files for some versions only: what they do is not in the others, where they are never called."""


def versions_of(file: Path) -> tuple[str, ...]:
    """The TensorRT versions a file of the product is declared for."""
    return FOR_SOME.get(file.name, VERSIONS)


def product_files(version: str) -> list[Path]:
    """The product's files that run with a version of TensorRT."""
    return sorted(file for file in PRODUCT.rglob("*.py") if version in versions_of(file))


@dataclass(frozen=True)
class Verdict:
    """What mypy found with the stubs of one version: line number and message, by file."""

    stub: list[tuple[int, str]]
    sample: list[tuple[int, str]]
    product: list[str]


def check_all(folder: Path) -> dict[str, Verdict]:
    """Check everything against every version, two at a time; `folder` takes stubs and caches."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(VERSIONS, pool.map(lambda version: _check(version, folder / version), VERSIONS), strict=True))


def _check(version: str, folder: Path) -> Verdict:
    stub = write_stub(api(version), folder)
    checked = [stub, SAMPLE, *product_files(version)]
    options: list[str | Path] = [
        "--config-file",
        HERE / "mypy.ini",
        "--cache-dir",
        folder / "cache",
        "--no-error-summary",
    ]
    options += ["--show-absolute-path", "--hide-error-context", "--no-pretty", "--no-color-output"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *checked],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    messages = [match.groups() for match in re.finditer(r"^(.+?):(\d+): error: (.+)$", run.stdout, re.MULTILINE)]
    if run.returncode != 1 or not messages:  # parts of the sample are refused in every version
        raise RuntimeError(f"mypy did not run with TensorRT {version}:\n{run.stdout}{run.stderr}")
    known = {stub, SAMPLE}
    return Verdict(
        stub=[(int(line), text) for file, line, text in messages if Path(file) == stub],
        sample=[(int(line), text) for file, line, text in messages if Path(file) == SAMPLE],
        product=[f"{Path(file).name}:{line}: {text}" for file, line, text in messages if Path(file) not in known],
    )
