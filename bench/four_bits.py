"""Ladders with 4 bit on trained transformers: accuracy, size, modelled latency, passes, by metric, search and target.

`python -m bench.four_bits` adds rows to `bench/results/four-bits.jsonl` as they are done, so it can be stopped and goes
on where it was; `--print` writes the table of what is there to `bench/results/four-bits.md`. It is searched for one
device; what the plan would take on another stands beside it. Latencies are modelled.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from bench.fusions import subjects
from bench.observed import Subject, compare
from bench.paper_models import PAPER_MODELS
from bench.program import program
from trt_mpq.errors import TargetNotReachable
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.size import weight_bytes
from trt_mpq.latency.target import target_from_name
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.scoring import FP32
from trt_mpq.settings import settings_from
from trt_mpq.types import Grouping, Precision, PrecisionPlan
from trt_mpq.types.observer import SilentObserver

LADDERS = ("fp16,fp8,nvfp4", "fp16,int8,w4a16", "fp16,w8a16")
TARGETS = (0.99, 0.999)
METRICS = ("output-sqnr", "quantization-error", "noise", "fisher", "random")
SEARCHED, OTHERS = "rtx5090", ("b200",)
BATCH = 32
RESULTS = Path(__file__).parent / "results"
ROWS, TABLE, REALISED = (RESULTS / f"four-bits{name}" for name in (".jsonl", ".md", "-realised.md"))
CAPABILITIES = (86, 89, 120)
_REALISED_HEAD = (
    "# Plans with 4 bit as NVIDIA's compiler realises them",
    "",
    "`python -m bench.four_bits --compile`: every plan of `four-bits.md`, and the uniform ones, through TensorRT for "
    "RTX, for the compute capabilities that have its formats. A cell is the groups that multiply in the planned "
    "format, of all.",
    "",
    "| network | groups | as planned, by compute capability |",
    "|---|---|---|",
)
RUNS = Path(__file__).parent / "cache" / "four_bits" / "runs"


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    model: str
    ladder: str
    refined: bool
    target: float
    search: str
    metric: str
    samples: int


@dataclass(frozen=True)
class Row:
    """One measured row: accuracy against FP32, size and latency against uniform FP16; `failure` says why not."""

    job: Job
    plan: list[str] = field(default_factory=list)
    uniform: dict[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    size: float | None = None
    latency: dict[str, float] = field(default_factory=dict)
    passes: float | None = None
    failure: str = ""


def jobs(model: str, samples: int) -> Iterator[Job]:
    """The rows of a model, those that say most first: uniform plans and our search, then the paper's searches."""
    for ladder in LADDERS:
        for refined in (True, False):
            for target in TARGETS:
                yield Job(model, ladder, refined, target, "uniform", METRICS[0], samples)
                yield Job(model, ladder, refined, target, "ilp", METRICS[0], samples)
    for search in ("ilp", "bisection", "greedy"):
        for metric in METRICS[1:] if search == "ilp" else METRICS:
            for ladder in LADDERS:
                for target in reversed(TARGETS):
                    yield Job(model, ladder, True, target, search, metric, samples)


def measured() -> list[Row]:
    """The rows that are there."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return [Row(**{**content, "job": Job(**content["job"])}) for content in map(json.loads, lines)]


def measure(job: Job) -> Row:
    """Run a search."""
    real = PAPER_MODELS[job.model]
    settings = settings_from(
        {
            "model": real.path, "calib": real.calib, "eval": real.eval, "calib_samples": 128,
            "eval_samples": job.samples, "metric": real.metric, "precisions": job.ladder.split(","),
            "sensitivity": job.metric, "search": job.search, "target_accuracy": job.target, "calibration": "mse",
            "bias_correction": job.refined, "refine_plan": False, "exclusions": "none", "threads": 1, "trials": 2,
            "sensitivity_samples": 64, "device": SEARCHED, "batch": BATCH, "confidence": 1.0, "max_evaluations": 20,
        },
        "four bits",
    )  # fmt: skip
    folder = RUNS / f"{job.model}-{job.ladder.replace(',', '-')}-{job.refined}"
    run = Run(settings, folder, SilentObserver(), "bench.four_bits")
    try:
        result = run.search()
    except TargetNotReachable as failure:
        return Row(job, failure=str(failure))
    plan = result.chosen.plan
    network, fp32 = run.store[run.calibration_stages().scored.network], run.store[FP32]
    grouping, other = network.grouping, network.model.parameters - network.grouping.weight_elements
    high = grouping.uniform(grouping.top)
    forward = result.samples_run + run.store[run.search_stages().ranking.first].forward_passes
    return Row(
        job,
        plan=[precision.value for _, precision in plan.assignments],
        uniform={
            precision.value: tried.score.value / fp32.value
            for precision in result.ladder
            for tried in result.path
            if tried.plan == grouping.uniform(precision)
        },
        accuracy=result.chosen.score.value / fp32.value,
        size=weight_bytes(plan, grouping, other) / weight_bytes(high, grouping, other),
        latency={device: _ratio(grouping, plan, high, device) for device in (SEARCHED, *OTHERS)},
        passes=forward / fp32.samples,
    )


def _ratio(grouping: Grouping, plan: PrecisionPlan, high: PrecisionPlan, device: str) -> float:
    model = LatencyModel(grouping, target_from_name(device), BATCH)
    return model.plan_ms(plan) / model.plan_ms(high)


def table(rows: list[Row]) -> str:
    """All rows as Markdown."""
    devices = (SEARCHED, *OTHERS)
    lines = [
        "# Ladders with 4 bit",
        "",
        f"`python -m bench.four_bits`, batch {BATCH}, searched for {SEARCHED}; no group is excluded that a format can "
        "run. Accuracy is a share of FP32's, size and **modelled** latency are shares of FP16's; passes over the "
        "evaluation data count the ranking. A search has at most 20 plans.",
    ]
    ordered = sorted(rows, key=lambda row: (row.job.model, row.job.ladder, not row.job.refined, row.job.target))
    for (model, ladder, plain, target), own in groupby(
        ordered, key=lambda row: (row.job.model, row.job.ladder, not row.job.refined, row.job.target)
    ):
        how = "without refinement" if plain else "with bias correction"
        found = list(own)
        uniform = {name: share for row in found for name, share in row.uniform.items()}
        lines += ["", f"### {model}, {ladder}, {how}, target {target} of FP32", ""]
        lines += [f"Uniform plans: {', '.join(f'{name} {share:.2%}' for name, share in uniform.items())}.", ""]
        titles = " | ".join(f"latency {device}" for device in devices)
        lines += [f"| search | ranking | groups | accuracy | size | {titles} | passes |"]
        lines += ["|---|---|---|---:|---:|" + "---:|" * len(devices) + "---:|"]
        lines += [_line(row, devices) for row in found]
    return "\n".join(lines) + "\n"


def _line(row: Row, devices: tuple[str, ...]) -> str:
    ranking = "-" if row.job.search == "uniform" else row.job.metric
    if row.accuracy is None or row.size is None or row.passes is None:
        return f"| {row.job.search} | {ranking} | not reached | | |" + " |" * (len(devices) + 1)
    groups = ", ".join(f"{count} {name}" for name, count in Counter(row.plan).most_common())
    latencies = " | ".join(f"{row.latency[device]:.3f}" for device in devices)
    return (
        f"| {row.job.search} | {ranking} | {groups} | {row.accuracy:.2%} | {row.size:.3f} | {latencies} | "
        f"{row.passes:.1f} |"
    )


def realised(rows: list[Row]) -> Iterator[str]:
    """What NVIDIA's compiler makes of every different plan, a line of Markdown each, for the GPUs that have it.

    Uniform plans of every format are among them.
    """
    for model in dict.fromkeys(row.job.model for row in rows):
        (subject,) = subjects({model})
        ids = [group.id for group in subject.grouping.groups]
        formats = dict.fromkeys(Precision(name) for ladder in LADDERS for name in ladder.split(","))
        plans = dict.fromkeys(map(subject.grouping.uniform, formats))
        plans |= dict.fromkeys(
            PrecisionPlan.of(dict(zip(ids, map(Precision, row.plan), strict=True)))
            for row in rows
            if row.job.model == model and row.plan
        )
        yield from (_realised(subject, plan) for plan in plans)


def _realised(subject: Subject, plan: PrecisionPlan) -> str:
    graph, cells = subject.emitted(plan), []
    for capability in (sm for sm in CAPABILITIES if all(p.spec.first_sm <= sm for p in plan.counts())):
        outcome = subject.compiled({"plan": graph}, capability)["plan"]
        share = outcome.stage
        if outcome.engine is not None:
            share = str(compare(subject.grouping, plan, graph, program(outcome.engine)).precision)
        cells.append(f"{capability / 10:.1f}: {share}")
    mix = ", ".join(f"{count} {precision}" for precision, count in plan.counts().items())
    return f"| {subject.name} | {mix} | {', '.join(cells)} |"


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.four_bits", description=__doc__)
    parser.add_argument("--models", default="minilm")
    parser.add_argument("--eval-samples", type=int, default=300)
    parser.add_argument("--print", action="store_true", help="write the table of the rows measured so far")
    parser.add_argument("--compile", action="store_true", help="compile the plans measured so far")
    options = parser.parse_args()
    if options.compile:
        REALISED.write_text("".join(f"{line}\n" for line in (*_REALISED_HEAD, *realised(measured()))), encoding="utf-8")
        return
    done = {row.job for row in measured()}
    for job in (job for name in options.models.split(",") for job in jobs(name, options.eval_samples)):
        if job not in done and not options.print:
            done.add(job)
            row = measure(job)
            with ROWS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
            print(_line(row, (SEARCHED, *OTHERS)), job.ladder, job.target, flush=True)
    TABLE.write_text(table(measured()), encoding="utf-8")


if __name__ == "__main__":
    main()
