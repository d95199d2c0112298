"""Searches on real models, a row of a results file each: what `bench.paper_table` and `bench.four_bits` share.

Rows are added as they are done, so that a bench can be stopped and goes on where it was. A row keeps its plan: when the
latency model changes, `--restate` tells anew what every plan takes, and evaluates nothing. Latencies are modelled.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from bench.real import RealModel
from trt_mpq.artifacts.files import write_text
from trt_mpq.errors import TargetNotReachable
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.size import weight_bytes
from trt_mpq.latency.target import target_from_name
from trt_mpq.pipeline.model_states import states
from trt_mpq.pipeline.networks import groups_of
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.scoring import FP32
from trt_mpq.pipeline.sources import PREPARED
from trt_mpq.settings import settings_from
from trt_mpq.types import Grouping, Precision, PrecisionPlan, RefinementRecord
from trt_mpq.types.observer import SilentObserver


@dataclass(frozen=True)
class Job:
    """One search, on so many evaluation samples; None stands for what `bench.real` can afford."""

    model: str
    ladder: str
    refined: bool
    search: str
    metric: str
    target: float
    seed: int = 0
    samples: int | None = None
    objective: str = "latency"

    @property
    def folder(self) -> str:
        """Name of the run folder: searches that differ in nothing else share calibration, refinement and scores."""
        ladder = self.ladder.replace("/", "_").replace(",", "-")
        return f"{self.model}-{ladder}-{self.refined}" + (f"-{self.samples}" if self.samples else "")


@dataclass(frozen=True)
class Row:
    """What came of a search; size and latency are shares of uniform FP16's, accuracy is one of FP32's.

    Attributes:
        plan: Group to precision, in network order; empty in rows from before plans were kept.
        uniform: Accuracy of the uniform plans that were evaluated, by precision.
        refinement: What each step of refinement did to the uniform plans.
        latency: On the device that was searched for.
        others: The same plan on other devices.
        lowered: Share of the groups that are not in FP16.
        equivalents: Passes over the evaluation data, ranking included.
        evaluations: Plans that were evaluated; None where that was not counted.
        failure: Why there is no plan, None if there is one.
    """

    job: Job
    plan: Mapping[str, str] = field(default_factory=dict)
    uniform: Mapping[str, float] = field(default_factory=dict)
    refinement: Sequence[str] = ()
    accuracy: float | None = None
    size: float | None = None
    latency: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    lowered: float | None = None
    equivalents: float | None = None
    evaluations: int | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Bench:
    """A table of searches.

    Attributes:
        name: Of the module, for the command line and the results.
        models: Name to model and data.
        jobs: The rows of a model, on so many evaluation samples, those that say most first.
        settings: What a job is run with.
        refinement: What `refined` stands for, in words.
        device: What is searched for.
        others: Devices that the plans are told for too.
        root: Where `results/` and `cache/` are.
    """

    name: str
    models: Mapping[str, RealModel]
    jobs: Callable[[str, int | None], Iterable[Job]]
    settings: Callable[[Job], Mapping[str, Any]]
    refinement: str
    device: str
    others: tuple[str, ...] = ()
    root: Path = Path(__file__).parent

    @property
    def rows(self) -> Path:
        """The results, a line each."""
        return self.root / "results" / f"{self.name.replace('_', '-')}.jsonl"

    def measured(self) -> list[Row]:
        """The rows that are there."""
        lines = self.rows.read_text(encoding="utf-8").splitlines() if self.rows.exists() else []
        return [Row(**{**content, "job": Job(**content["job"])}) for content in map(json.loads, lines)]

    def measure(self, job: Job) -> Row:
        """Run a search."""
        run = self.run(job)
        try:
            result = run.search()
        except TargetNotReachable as failure:
            return Row(job, failure=str(failure))
        plan, fp32 = result.chosen.plan, run.store[FP32]
        network = run.store[run.calibration_stages().scored.network]
        forward = result.samples_run + run.store[run.search_stages().ranking.first].forward_passes
        row = Row(
            job,
            plan={group: precision.value for group, precision in plan.assignments},
            uniform={
                precision.value: tried.score.value / fp32.value
                for precision in result.ladder
                for tried in result.path
                if tried.plan == network.grouping.uniform(precision)
            },
            refinement=[_step(record, fp32.value) for record in self._records(run)],
            accuracy=result.chosen.score.value / fp32.value,
            equivalents=forward / fp32.samples,
            evaluations=len(result.path),
        )
        return self._stated(row, plan, network.grouping, network.model.parameters)

    def restated(self, row: Row) -> Row:
        """The row with the size and the latencies of its plan as they are modelled today.

        One without a plan is as it was, and one whose plan is of other groups than the network has today.
        """
        if not row.plan:
            return row
        store = self.run(row.job).store
        grouping = store[groups_of(states(store.settings)[0])]
        if list(row.plan) != [group.id for group in grouping.groups]:
            print(f"not restated, for the groups are others now: {row.job}")
            return row
        plan = PrecisionPlan.of({group: Precision(name) for group, name in row.plan.items()})
        return self._stated(row, plan, grouping, store[PREPARED].parameters)

    def _records(self, run: Run) -> Iterator[RefinementRecord]:
        stages = run.calibration_stages()
        return stages.records(run.store, run.store[stages.choose_refinements(run.store)])

    def run(self, job: Job) -> Run:
        """The run of a search, in the folder that it shares with others."""
        real, folder = self.models[job.model], self.root / "cache" / self.name / "runs" / job.folder
        settings = {
            "model": real.path, "calib": real.calib, "eval": real.eval, "metric": real.metric, "outputs": real.outputs,
            "eval_samples": job.samples or real.eval_samples, "sensitivity": job.metric, "search": job.search,
            "seed": job.seed, "target_accuracy": job.target, "objective": job.objective,
            "device": self.device, "batch": real.batch, "refine_plan": False, "exclusions": "none",
            "trials": 2, "threads": 1, "confidence": 1.0,  # the table counts full evaluations
        }  # fmt: skip
        return Run(settings_from({**settings, **self.settings(job)}, self.name), folder, SilentObserver(), self.name)

    def _stated(self, row: Row, plan: PrecisionPlan, grouping: Grouping, parameters: int) -> Row:
        """The row with what `plan` is modelled to take."""
        high, other = grouping.uniform(Precision.FP16), parameters - grouping.weight_elements

        def latency(device: str) -> float:
            model = LatencyModel(grouping, target_from_name(device), self.models[row.job.model].batch)
            return model.plan_ms(plan) / model.plan_ms(high)

        return replace(
            row,
            size=weight_bytes(plan, grouping, other) / weight_bytes(high, grouping, other),
            latency=latency(self.device),
            others={device: latency(device) for device in self.others},
            lowered=1 - plan.counts().get(Precision.FP16, 0) / len(plan.assignments),
        )


def _step(record: RefinementRecord, fp32: float) -> str:
    step = f"{record.name}, {record.precision}"
    if record.before is None or record.after is None:  # where nothing had to be scored to know
        return f"{step}: {record.detail}"
    return f"{step}: {record.before / fp32:.2%} to {record.after / fp32:.2%} ({record.detail})"


def run_jobs(bench: Bench, jobs: Sequence[Job]) -> None:
    """Measure the jobs that have no row yet, one after the other."""
    done = {row.job for row in bench.measured()}
    for job in (job for job in jobs if job not in done):
        row = bench.measure(job)
        with bench.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")  # one write, so that processes do not mix lines
        print(job.model, job.ladder, "refined" if job.refined else "plain", job.target, *_cells([row]), flush=True)


def progress(bench: Bench, rows: Iterable[Row]) -> str:
    """How many rows of each model there are, of all that `jobs` asks for, on whatever samples."""
    there = {replace(row.job, samples=None) for row in rows}
    counts = []
    for model in bench.models:
        asked = set(bench.jobs(model, None))
        counts.append(f"{model} {len(asked & there)} of {len(asked)}")
    return f"Rows that are there: {', '.join(counts)}."


def table(bench: Bench, rows: Iterable[Row]) -> Iterator[str]:
    """All rows as lines of Markdown, random rankings averaged over their seeds."""
    found: dict[tuple[Any, ...], dict[tuple[str, str], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        job = row.job
        heading = job.model, job.samples or 0, job.ladder, not job.refined, job.target, job.objective
        found[heading][job.search, job.metric].append(row)
    titles = [f"latency {device}" for device in (bench.device, *bench.others)]
    for heading in sorted(found):
        yield from _heading(bench, *heading)
        if uniform := {name: share for own in found[heading].values() for name, share in own[0].uniform.items()}:
            yield from (f"Uniform plans: {', '.join(f'{name} {share:.2%}' for name, share in uniform.items())}.", "")
        first = next(iter(found[heading].values()))[0]
        if first.refinement:
            yield from (*(f"- {step}" for step in first.refinement), "")
        yield f"| search | ranking | groups | accuracy | size | {' | '.join(titles)} | passes | plans |"
        yield "|---|---|---|---:|---:|" + "---:|" * len(titles) + "---:|---:|"
        yield from (f"| {' | '.join(_cells(own, bench.others))} |" for _, own in sorted(found[heading].items()))


def _heading(
    bench: Bench, model: str, samples: int, ladder: str, plain: bool, target: float, objective: str
) -> Iterator[str]:
    name = f"{model}, first {samples} samples" if samples else model
    how = "without refinement" if plain else bench.refinement
    least = "" if objective == "latency" else f", least {objective}"
    yield from ("", f"### {name}, ladder {ladder}, {how}, target {target} of FP32{least}", "")


def _cells(rows: Sequence[Row], others: Sequence[str] = ()) -> list[str]:
    job, reached = rows[0].job, [row for row in rows if row.failure is None]
    ranking = f"random (mean of {len(rows)})" if job.metric == "random" else job.metric
    head = [job.search, "-" if job.search == "uniform" else ranking]
    if not reached:
        return [*head, "not reached", *[""] * (5 + len(others))]

    def average(figure: Callable[[Row], Any]) -> float:
        return mean(figure(row) for row in reached)

    old = "" if all(row.plan for row in reached) else "°"
    return [
        *head, _groups(reached), f"{average(lambda row: row.accuracy):.2%}", f"{average(lambda row: row.size):.3f}",
        f"{average(lambda row: row.latency):.3f}{old}",
        *(f"{average(lambda row, device=device: row.others[device]):.3f}" for device in others),
        f"{average(lambda row: row.equivalents):.1f}",
        "-" if any(row.evaluations is None for row in reached) else f"{average(lambda row: row.evaluations):.0f}",
    ]  # fmt: skip


def _groups(rows: Sequence[Row]) -> str:
    """The groups by precision, or the share of those lowered where there is more than one plan or none was kept."""
    if len(rows) == 1 and rows[0].plan:
        return ", ".join(f"{count} {name}" for name, count in Counter(rows[0].plan.values()).most_common())
    return f"{mean(row.lowered or 0.0 for row in rows):.0%} lowered"


def command(bench: Bench, about: str, introduction: Sequence[str], defaults: Mapping[str, Any]) -> None:
    """Measure what is missing, restate or not, then write the table below `introduction`."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{bench.name}", description=about)
    parser.add_argument("--models", nargs="+", default=list(bench.models), choices=bench.models)
    parser.add_argument("--searches", nargs="+", help="default: all")
    parser.add_argument("--metrics", nargs="+", help="rankings; default: all")
    parser.add_argument("--ladders", nargs="+", help="default: all")
    parser.add_argument("--targets", nargs="+", type=float, help="shares of FP32's score; default: all")
    parser.add_argument("--eval-samples", type=int, help="default: what bench.real can afford per model")
    parser.add_argument("--jobs", type=int, default=1, help="processes; each runs its models on one thread")
    parser.add_argument("--print", action="store_true", help="write the table of the rows measured so far")
    parser.add_argument("--restate", action="store_true", help="tell the latencies of all plans anew first")
    parser.set_defaults(**defaults)
    options = parser.parse_args()
    if options.restate:
        restated = [bench.restated(row) for row in bench.measured()]
        write_text(bench.rows, "".join(json.dumps(asdict(row)) + "\n" for row in restated))
    elif not options.print:
        _measure_all(bench, options)
    rows = bench.measured()
    lines = [*introduction, "", progress(bench, rows), *table(bench, rows)]
    write_text(bench.rows.with_suffix(".md"), "\n".join(lines) + "\n")


def _measure_all(bench: Bench, options: argparse.Namespace) -> None:
    """Jobs that share a run folder one after the other, others side by side."""
    batches: dict[str, list[Job]] = defaultdict(list)
    for name in options.models:
        bench.models[name].make()
        for job in bench.jobs(name, options.eval_samples):
            if _asked(job, options):
                batches[job.folder].append(job)
    with ProcessPoolExecutor(options.jobs) as pool:
        for future in [pool.submit(run_jobs, bench, jobs) for jobs in batches.values()]:
            future.result()


def _asked(job: Job, options: argparse.Namespace) -> bool:
    chosen = (
        (job.search, options.searches), (job.metric, options.metrics), (job.ladder, options.ladders),
        (job.target, options.targets),
    )  # fmt: skip
    return all(wanted is None or value in wanted for value, wanted in chosen)
