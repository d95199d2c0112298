"""What workers bring on this host: a plan found for a network by one thread, by N of them, and by N workers.

From the model to the plan with its files scored: calibration, ranking, search and delivery. The workers are processes,
and actors of a Ray cluster that the bench starts and stops. All take turns, for the machine may be busy with other
things. Efficiency is the median time of one thread over N times that of N; workers start and end with each run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from bench.real import MODELS
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types.observer import SilentObserver

_WAYS = ("threads", "processes", "actors")
"""What can be measured; the actors are those of a Ray cluster."""


def _opened(options: argparse.Namespace, folder: Path, **more: Any) -> Run:
    real = MODELS[options.model]
    fields = {
        "model": real.path, "calib": real.calib, "calib_samples": 256,
        "eval": real.eval, "eval_samples": options.eval_samples or real.eval_samples,
        "calibration": "mse", "precisions": "int8", "target_accuracy": options.target,
        "sensitivity": options.metric, "search": options.search, "refine_plan": False, "confidence": 1.0, **more,
    }  # fmt: skip
    return Run(settings_from(fields, "bench"), folder, SilentObserver(), "bench.workers")


@contextmanager
def _ray_cluster(cpus: int) -> Iterator[str]:
    """The address of a cluster of this host, which ends with it."""
    import ray

    program = str(Path(sys.executable).with_name("ray"))
    command = [program, "start", "--head", f"--num-cpus={cpus}", "--include-dashboard=false", "--port=6399"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    try:
        yield "127.0.0.1:6399"
    finally:
        ray.shutdown()  # it tells at length of a cluster that ends before it
        subprocess.run([program, "stop", "--force"], check=True, stdout=subprocess.DEVNULL)


def _measured(options: argparse.Namespace, ways: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float]]:
    """Seconds of each turn, by way."""
    seconds: dict[str, list[float]] = defaultdict(list)
    plans = set()
    with tempfile.TemporaryDirectory() as name:
        for turn in range(options.turns):
            for way, more in ways.items():
                run = _opened(options, Path(name) / f"{way} {turn}", **more)
                started = time.perf_counter()
                plans.add(run.emit())
                seconds[way].append(time.perf_counter() - started)
    assert len(plans) == 1, "workers changed the plan"
    return seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--model", default="resnet20", choices=MODELS)
    parser.add_argument("--metric", default="noise")
    parser.add_argument("--search", default="greedy")
    parser.add_argument("--target", type=float, default=0.999)
    parser.add_argument("--eval-samples", type=int, help="default: what bench.real can afford")
    parser.add_argument("--ways", nargs="+", default=_WAYS, choices=_WAYS, help="beside one thread; default: all")
    options = parser.parse_args()
    number, one = options.workers, "1 thread"
    with _ray_cluster(number) if "actors" in options.ways else nullcontext() as address:
        own = {
            "threads": {"threads": number},
            "processes": {"threads": number, "workers": number},
            "actors": {"workers": number, "ray": address},
        }
        seconds = _measured(options, {one: {"threads": 1}, **{f"{number} {way}": own[way] for way in options.ways}})
    print(f"{options.model} INT8 {options.target}, {options.metric}, {options.search}, {options.turns} turns\n")
    print("| | seconds | efficiency |\n|---|---:|---:|")
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    for way, median in medians.items():
        shared = f"{medians[one] / median / number:.2f}" if way != one else ""
        print(f"| {way} | {median:.1f} | {shared} |")


if __name__ == "__main__":
    main()
