"""The whole command, and how fast `--help` starts.

ResNet-20 by the paper's bisection on noise sensitivity, and with the defaults; MiniLM by bisection on noise, in FP8.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.real import MODELS

PAPER = ("--sensitivity", "noise", "--search", "bisection")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "resnet20, noise and bisection": ("resnet20", PAPER),
    "resnet20, defaults": ("resnet20", ()),
    "minilm, noise and bisection": ("minilm", (*PAPER, "--precisions", "fp16,fp8", "--target-accuracy", "0.999")),
}


def timed(*arguments: str) -> float:
    """Wall seconds of one `trt-mpq` command."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "trt_mpq", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def measured(model: str, options: tuple[str, ...]) -> dict[str, Any]:
    """Seconds, and what the report says, of one build with 256 calibration samples and all evaluation samples.

    `peak_mib` is that of the largest build so far: the runs go from small to large.
    """
    real = MODELS[model]
    with tempfile.TemporaryDirectory() as folder:
        seconds = timed(
            "build", str(real.path), "--calib", real.calib, "--eval", real.eval, "--calib-samples", "256", *options,
            "--quiet", "-o", folder,
        )  # fmt: skip
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    return {
        "build_seconds": round(seconds, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "accuracy": report["accuracy"],
        "counts": report["plan"]["counts"],
        "latency_of_fp16": round(report["latency_ms"]["plan"] / report["latency_ms"]["fp16"], 3),
        "search": {key: report["search"][key] for key in ("evaluations", "full_equivalents", "seconds")},
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=RUNS, action="append", help="leave out the other runs")
    chosen = parser.parse_args().only or list(RUNS)
    figures: dict[str, Any] = {"help_seconds": round(median(timed("--help") for _ in range(7)), 3)}
    print(json.dumps(figures | {name: measured(*RUNS[name]) for name in chosen}, indent=2))


if __name__ == "__main__":
    main()
