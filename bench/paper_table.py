"""The paper's table on our models: accuracy, relative size and latency, and cost, per metric x search x target.

Beside the paper's searches stands ours, `ilp`, on every ranking: that is the ablation of our search.

Rows are added to `bench/results/paper-table.jsonl` as they are done, so the command can be stopped and goes on where
it was; `--print` writes the table of what is there. Latencies are modelled. Nothing here claims to reproduce the
paper's numbers: its models and data are others, and only its abstract is public.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from bench.paper_models import PAPER_MODELS
from trt_mpq.errors import TargetNotReachable
from trt_mpq.latency.size import weight_bytes
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.scoring import FP32
from trt_mpq.settings import settings_from
from trt_mpq.types import Precision
from trt_mpq.types.observer import SilentObserver

LADDERS = {"int8": "fp16,int8", "fp8": "fp16,fp8", "16/8/4": "fp16,int8,int4"}
METRICS = ("quantization-error", "noise", "hessian")
OWN_METRICS = ("output-sqnr", "task-loss", "fisher")
"""What we have beyond the paper's; the first is the default."""
RANDOM_SEEDS = 5
TARGETS = (0.99, 0.999)
SENSITIVITY_SAMPLES = 128
DEVICE = "l4"
ROWS = Path(__file__).parent / "results" / "paper-table.jsonl"
RUNS = Path(__file__).parent / "cache" / "paper_table" / "runs"


@dataclass(frozen=True)
class Job:
    """One row to measure, on so many evaluation samples; None stands for what `bench.real` can afford."""

    model: str
    ladder: str
    refined: bool
    search: str
    metric: str
    seed: int
    target: float
    samples: int | None = None


@dataclass(frozen=True)
class Row:
    """One measured row; ratios are against uniform FP16, accuracy against FP32. `failure` says why there is none."""

    job: Job
    accuracy: float | None = None
    size: float | None = None
    latency: float | None = None
    lowered: float | None = None
    equivalents: float | None = None
    evaluations: int | None = None
    failure: str | None = None


def jobs(models: list[str], searches: list[str], ladders: list[str], samples: int | None) -> Iterator[list[Job]]:
    """Lists of jobs that share a run folder and therefore run one after the other.

    Without refinement there are only the uniform plans and bisection by noise: enough to see what it is worth.
    Greedy takes one evaluation per group and rung, so its random control has one seed.
    """
    for model in models:
        for ladder in (own for own in PAPER_MODELS[model].ladders if own in ladders):
            for refined in (True, False):
                yield [
                    Job(model, ladder, refined, search, metric, seed, target, samples)
                    for search in searches
                    for metric, seed in _rankings(search, refined)
                    for target in TARGETS
                ]


def _rankings(search: str, refined: bool) -> list[tuple[str, int]]:
    if search == "uniform":
        return [("noise", 0)]
    if not refined:
        return [("noise", 0)] if search == "bisection" else []
    if search == "ilp":
        own = [(metric, 0) for metric in (*OWN_METRICS, *METRICS)]
        return [*own, *(("random", seed) for seed in range(RANDOM_SEEDS))]
    seeds = 1 if search == "greedy" else RANDOM_SEEDS
    return [*((metric, 0) for metric in METRICS), *(("random", seed) for seed in range(seeds))]


def measure(batch: list[Job], threads: int) -> None:
    """Measure the jobs of one list, skipping those already done."""
    done = {row.job for row in measured()}
    for job in batch:
        if job not in done:
            row = _measure(job, threads)
            with ROWS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")  # one write, so that processes do not mix lines
            print(_line(row), flush=True)


def measured() -> list[Row]:
    """The rows that are there."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return [Row(**{**content, "job": Job(**content["job"])}) for content in map(json.loads, lines)]


def _measure(job: Job, threads: int) -> Row:
    real = PAPER_MODELS[job.model]
    settings = settings_from(
        {
            "model": real.path, "calib": real.calib, "eval": real.eval, "calib_samples": 256,
            "eval_samples": job.samples or real.eval_samples, "precisions": LADDERS[job.ladder].split(","),
            "sensitivity": job.metric, "search": job.search, "seed": job.seed, "target_accuracy": job.target,
            "calibration": "mse", "bias_correction": job.refined, "refine_plan": False, "exclusions": "none",
            "threads": threads,
            "sensitivity_samples": real.hessian_samples if job.metric == "hessian" else SENSITIVITY_SAMPLES,
            "trials": 2, "device": DEVICE, "confidence": 1.0,  # the table counts full evaluations
        },
        "paper table",
    )  # fmt: skip
    folder = RUNS / f"{job.model}-{job.ladder.replace('/', '_')}-{job.refined}"
    run = Run(settings, folder, SilentObserver(), "bench.paper_table")
    try:
        result = run.search()
    except TargetNotReachable as failure:
        return Row(job, failure=str(failure))
    plan = result.chosen.plan
    network, fp32 = run.store[run.calibration_stages().scored.network], run.store[FP32]
    fp16 = network.grouping.uniform(Precision.FP16)
    other = network.model.parameters - network.grouping.weight_elements
    baseline = next(e.latency_ms for e in result.path if e.plan == fp16)
    forward = result.samples_run + run.store[run.search_stages().ranking.first].forward_passes
    return Row(
        job,
        accuracy=result.chosen.score.value / fp32.value,
        size=weight_bytes(plan, network.grouping, other) / weight_bytes(fp16, network.grouping, other),
        latency=result.chosen.latency_ms / baseline,
        lowered=1 - plan.counts().get(Precision.FP16, 0) / len(plan.assignments),
        equivalents=forward / fp32.samples,
        evaluations=len(result.path),
    )


def _line(row: Row) -> str:
    job = row.job
    head = (
        f"{job.model:<10}{job.ladder:<8}{job.refined!s:<6}{job.search:<10}{job.metric:<20}{job.seed:<3}{job.target:<6}"
    )
    if row.failure is not None:
        return f"{head} not reached: {row.failure}"
    return f"{head} {row.accuracy:8.4f} {row.size:6.3f} {row.latency:6.3f} {row.equivalents:7.1f} {row.evaluations}"


def table() -> str:
    """All measured rows as Markdown, random averaged over its seeds."""
    merged: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in measured():
        job = row.job
        merged[job.model, job.samples, job.ladder, not job.refined, job.target, job.search, job.metric].append(row)
    lines = []
    heading: tuple[object, ...] = ()
    for key in sorted(merged, key=str):
        if key[:5] != heading:
            heading = key[:5]
            lines += _heading(*heading)
        lines.append(_table_line(*key[5:], merged[key]))
    return "\n".join(lines) + "\n"


def _heading(model: object, samples: object, ladder: object, plain: object, target: object) -> list[str]:
    name = f"{model}, first {samples} samples" if samples else model
    refined = "without refinement" if plain else "with bias correction"
    return [
        "",
        f"### {name}, ladder {ladder}, {refined}, target {target} of FP32",
        "",
        "| search | sensitivity | accuracy / FP32 | size / FP16 | latency / FP16 | lowered groups | equivalents | plans |",  # noqa: E501
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]


def _table_line(search: object, metric: object, rows: list[Row]) -> str:
    name = f"random (mean of {len(rows)})" if metric == "random" else "-" if search == "uniform" else metric
    reached = [row for row in rows if row.failure is None]
    if not reached:
        return f"| {search} | {name} | not reached | | | | | |"
    return (
        f"| {search} | {name} | {_mean(reached, 'accuracy'):.2%} | {_mean(reached, 'size'):.3f} | "
        f"{_mean(reached, 'latency'):.3f} | {_mean(reached, 'lowered'):.0%} | {_mean(reached, 'equivalents'):.1f} | "
        f"{_mean(reached, 'evaluations'):.0f} |"
    )


def _mean(rows: list[Row], figure: str) -> float:
    return mean(getattr(row, figure) for row in rows)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(PAPER_MODELS))
    parser.add_argument("--searches", default="uniform,ilp,bisection,greedy")
    parser.add_argument("--ladders", default=",".join(LADDERS))
    parser.add_argument("--eval-samples", type=int, default=None, help="default: what bench.real can afford per model")
    parser.add_argument("--jobs", type=int, default=2, help="processes; each runs its models on one thread")
    parser.add_argument("--print", action="store_true", help="print the table of the rows measured so far")
    options = parser.parse_args()
    if not options.print:
        for made in filter(None, (PAPER_MODELS[name].made for name in options.models.split(","))):
            made()
        chosen = (options.models.split(","), options.searches.split(","), options.ladders.split(","))
        batches = list(jobs(*chosen, options.eval_samples))
        with ProcessPoolExecutor(options.jobs) as pool:
            for future in [pool.submit(measure, batch, 1) for batch in batches]:
                future.result()
    print(table())


if __name__ == "__main__":
    main()
