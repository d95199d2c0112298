"""Ours: the installed command, as any other peer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from task import Task

VERIFIED_FILES = 1
"""reference.onnx; typed.onnx has the score of the search's list."""


def main() -> None:
    """Build without an engine, for modelled latency."""
    task = Task.from_command_line()
    run = task.folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    data = task.fields["trt_mpq"]
    command = [
        sys.executable, "-m", "trt_mpq", "build", str(task.model), "--calib", data["calib"], "--eval", data["eval"],
        "--calib-samples", str(data["calib_samples"]), "--eval-samples", str(data["eval_samples"]),
        "--metric", task.metric, "--target-accuracy", str(task.target), "--precisions", f"fp16,{task.precision}",
        "--device", data["device"], "--batch", str(task.batch), "--latency", "modelled", "--no-engine",
        "--quiet", "--json", "-o", str(run),
    ]  # fmt: skip
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    shutil.copyfile(run / "typed.onnx", task.delivered)
    task.write_outcome(evaluations(report, run), (), {"trt-mpq": version("trt-mpq"), **_runtime(report)})


def evaluations(report: dict[str, Any], run: Path) -> float:
    """Every sample scored, and every one run to rank the groups, in passes over the evaluation set.

    The delivered reference.onnx is scored too, which the run folder's list leaves out.
    """
    samples = report["accuracy"]["samples"]
    searched = sum(step["samples"] * (1 + (step["delivered"] is not None)) for step in report["search"]["path"])
    ranking = report["search"]["full_equivalents"] - searched / samples
    scored = sum(json.loads(line)[4] for line in (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines())
    return ranking + scored / samples + VERIFIED_FILES


def _runtime(report: dict[str, Any]) -> dict[str, str]:
    return {"onnxruntime": report["environment"]["onnxruntime"]}


if __name__ == "__main__":
    main()
