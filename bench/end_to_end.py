"""The whole command on ResNet-20 (256 calibration, 5,000 evaluation images), and how fast `--help` starts."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.real import MODELS


def timed(*arguments: str) -> float:
    """Wall seconds of one `trt-mpq` command."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "trt_mpq", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print both figures as JSON."""
    real = MODELS["resnet20"]
    help_seconds = median(timed("--help") for _ in range(7))
    with tempfile.TemporaryDirectory() as folder:
        seconds = timed(
            "build", str(real.path), "--calib", real.calib, "--eval", real.eval, "--calib-samples", "256",
            "--sensitivity", "noise", "--search", "bisection", "--quiet", "-o", folder,
        )  # fmt: skip
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "help_seconds": round(help_seconds, 3), "build_seconds": round(seconds, 1), "peak_mib": round(peak_mib),
                "accuracy": report["accuracy"], "counts": report["plan"]["counts"], "search": {
                    key: report["search"][key] for key in ("evaluations", "full_equivalents", "seconds")
                },
            },
            indent=2,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
