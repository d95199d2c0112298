"""What workers bring on this host: ResNet-20 ranked by noise and searched, with one process of N threads and N of one.

Both take turns, for the machine may be busy with other things; the ratio of the medians is printed.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.real import MODELS
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types.observer import SilentObserver

TURNS = 3


def opened(folder: Path, **more: object) -> Run:
    real = MODELS["resnet20"]
    fields = {
        "model": real.path, "calib": real.calib, "eval": real.eval, "eval_samples": real.eval_samples,
        "calib_samples": 256, "precisions": "int8", "target_accuracy": 0.999, **more,
    }  # fmt: skip
    return Run(settings_from(fields, "bench"), folder, SilentObserver(), "bench.workers")


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        opened(base, threads=count).calibrate()
        seconds: dict[tuple[str, str], list[float]] = {}
        plans = set()
        for turn in range(TURNS):
            for how, more in (("one process", {}), ("workers", {"workers": count})):
                folder = Path(name) / f"{how} {turn}"
                shutil.copytree(base, folder)
                run = opened(folder, threads=count, **more)
                for what, stage in (("noise", run.sensitivity), ("search", run.search)):
                    started = time.perf_counter()
                    done = stage()
                    seconds.setdefault((what, how), []).append(time.perf_counter() - started)
                plans.add(done.chosen.plan)
        assert len(plans) == 1, "workers changed the plan"
        for what in ("noise", "search"):
            alone, shared = (statistics.median(seconds[what, how]) for how in ("one process", "workers"))
            figures = f"{alone:.1f} s with {count} threads, {shared:.1f} s with {count} workers"
            print(f"{what}: {figures}: x{alone / shared:.2f}")
            print("  ", {how: [round(s, 1) for s in seconds[what, how]] for how in ("one process", "workers")})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
