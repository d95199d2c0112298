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
    """Every sample scored, of plans and of files, and every one run to rank the groups, in passes over the data.

    `reference.onnx` is not scored again by the process that scored its graph.
    """
    lines = map(json.loads, (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines())
    scored = sum(samples for _, _, _, _, samples, *_ in lines)
    ranking = run / "sensitivity.json"
    ranked = json.loads(ranking.read_text(encoding="utf-8"))["forward_passes"] if ranking.exists() else 0.0
    return (scored + ranked) / int(report["accuracy"]["samples"])


def _runtime(report: dict[str, Any]) -> dict[str, str]:
    return {"onnxruntime": report["environment"]["onnxruntime"]}


if __name__ == "__main__":
    main()
