"""What ranges by tensor are worth: our search with one calibration method for all tensors, and with the choice of them.

How rows are kept says `bench.searches`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.real import MODELS
from bench.searches import Bench, Job, Row, run_jobs
from trt_mpq.artifacts.files import write_text

METHODS = ("mse", "entropy", "percentile")
"""`minmax` is `entropy` in FP8, and next to it in INT8."""
CHOSEN = "chosen"
TARGETS = {"int8": 0.999, "fp8": 0.99}
NETWORKS = ("resnet56", "minilm", "mobilenet")
_INTRODUCTION = """# One calibration method, or one for each tensor

`python -m bench.ranges`: `ilp` by output-sqnr on 2 CPU cores without a GPU, on the first 500 CIFAR-10 test images (ResNet-56) or STS-B
pairs (MiniLM) or all 400 ImageNet test images (MobileNet). Accuracy is a share of FP32's, latency is **modelled** for an L4 at batch 32,
as a share of uniform FP16's. `chosen` is the default: the first method with which the uniform plan keeps the target, else what a plan
of half the groups scores best with, one of them or a method for each tensor. All groups may be lowered; biases are corrected, no plan is refined once more for itself. Passes over the evaluation set
are those of ranking and search."""  # noqa: E501


def jobs(model: str, samples: int | None) -> Iterator[Job]:
    """The rows of a model; what is chosen comes first."""
    for method in (CHOSEN, *METHODS):
        for precision, target in TARGETS.items():
            yield Job(model, f"{precision}-{method}", True, "ilp", "output-sqnr", target, samples=samples)


def _settings(job: Job) -> Mapping[str, Any]:
    precision, _, method = job.ladder.partition("-")
    by = {} if method == CHOSEN else {"calibration": method}
    return {"precisions": ["fp16", precision], "calib_samples": 256, "confidence": 0.999, **by}


BENCH = Bench("ranges", {name: MODELS[name] for name in NETWORKS}, jobs, _settings, "with bias correction", "l4")


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Every row beside those of the same network, format and target."""
    yield "| network | format | target | calibration | accuracy | latency / FP16 | groups | passes | plans |"
    yield "|---|---|---:|---|---:|---:|---|---:|---:|"
    order = (CHOSEN, *METHODS)
    for row in sorted(rows, key=lambda row: (row.job.model, row.job.target, order.index(_method(row)))):
        job, groups = row.job, ", ".join(f"{count} {name}" for name, count in Counter(row.plan.values()).most_common())
        head = f"| {job.model} | {job.ladder.partition('-')[0]} | {job.target} | {_method(row)} | "
        if row.failure or row.equivalents is None:
            yield f"{head}not reached | | | | |"
        else:
            found = f"{row.accuracy:.2%} | {row.latency:.3f} | {groups}"
            yield f"{head}{found} | {row.equivalents:.1f} | {row.evaluations} |"


def _method(row: Row) -> str:
    return row.job.ladder.partition("-")[2]


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ranges", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--methods", nargs="+", default=[CHOSEN, *METHODS], choices=[CHOSEN, *METHODS])
    parser.add_argument("--formats", nargs="+", default=list(TARGETS), choices=TARGETS)
    options = parser.parse_args()
    wanted = {f"{precision}-{method}" for precision in options.formats for method in options.methods}
    for model in options.models:
        run_jobs(BENCH, [job for job in jobs(model, None) if job.ladder in wanted])
    write_text(BENCH.rows.with_suffix(".md"), "\n".join([_INTRODUCTION, "", *table(BENCH.measured())]) + "\n")


if __name__ == "__main__":
    main()
