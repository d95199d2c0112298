"""What a ranking is worth to our search, on the groups of real networks with harms that are drawn, so that chance averages out.

On a real network one image decides at targets that are interesting, and one search a ranking cannot be told from luck
(`bench.paper_table`). Here groups, latencies and the search are real, and what a plan scores is made up: the harms of its
groups, which add up, and luck of its own and of its file. So many draws are affordable, and truth is known.
"""  # noqa: E501

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.paper_table import BENCH
from bench.real import MODELS
from bench.searches import Job
from trt_mpq.artifacts.files import write_text
from trt_mpq.latency.cost_terms import kernel_terms
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.pipeline.model_states import states
from trt_mpq.pipeline.networks import groups_of
from trt_mpq.search import Problem, search_from_name
from trt_mpq.search.costs import Cost
from trt_mpq.search.frontier import Frontier
from trt_mpq.types import Grouping, Judgement, Precision, PrecisionPlan, Ranking, Score

FP16, INT8 = Precision.FP16, Precision.INT8
TARGET = 0.999
SAMPLES, FP32 = 500, 435
"""Samples of the evaluation, and how many of them FP32 has right."""
_ALLOWED = 0.5
"""Samples that a plan may lose: what is rounded to as many as FP32 has, which the target asks for."""
DECADES = 3.0
"""Over which the harms of groups are drawn."""
DRAWS = 10
ROWS = Path(__file__).parent / "results" / "ranking-worth.jsonl"

_Scores = NDArray[np.float64]


def _noisy(decades: float) -> Callable[[_Scores, np.random.Generator], _Scores]:
    return lambda harm, generator: np.asarray(harm * 10 ** generator.normal(0, decades, len(harm)))


RANKINGS: Mapping[str, Callable[[_Scores, np.random.Generator], _Scores]] = {
    "the truth": lambda harm, generator: harm,
    "within a factor of 3": _noisy(0.5),
    "within a factor of 30": _noisy(1.5),
    "random": lambda harm, generator: generator.permutation(len(harm)).astype(float),
    "random over 5 decades": lambda harm, generator: np.asarray(10 ** generator.uniform(-5, 0, len(harm))),
    "upside down": lambda harm, generator: 1 / harm,
}
"""Scores of groups out of their true harms."""


@dataclass(frozen=True)
class Task:
    """What scores are like; amounts are in samples.

    Attributes:
        name: What the table calls it.
        lost: What uniform INT8 loses.
        luck: Standard deviation of what a plan's score strays by.
        of_file: The same of its file's score, beside.
        whole: Whether scores are whole samples, as top-1 is, and not any number, as a correlation is.
    """

    name: str
    lost: float
    luck: float = 0.0
    of_file: float = 0.0
    whole: bool = True


TASKS = (
    Task("10 lost, no luck", 10.0),
    Task("10 lost, luck of 1", 10.0, luck=1.0),
    Task("3 lost, luck of 0.4, of files 0.5", 3.0, luck=0.4, of_file=0.5, whole=False),
    Task("1 lost, luck of 0.4, of files 0.5", 1.0, luck=0.4, of_file=0.5, whole=False),
)


@dataclass(frozen=True)
class Row:
    """A search: its latency as a share of uniform FP16's, and that of the best plan there is without luck."""

    model: str
    ranking: str
    task: str
    draw: int
    latency: float
    optimum: float
    plans: int


class MadeUp:
    """Scores plans by harms that add up, and luck that is the same whenever a plan or its file is asked."""

    stops_early = False

    def __init__(self, harm: Mapping[str, float], task: Task, draw: int) -> None:
        self._harm, self._task, self._draw = harm, task, draw

    def score(self, plan: PrecisionPlan) -> Score:
        """What the plan's lowered groups leave of FP32's samples."""
        return self._score(plan, self._strays(plan, "plan", self._task.luck))

    def judge(self, plan: PrecisionPlan) -> Judgement:
        """Nothing stops early."""
        raise AssertionError("nobody asks where nothing stops early")

    def delivered(self, plan: PrecisionPlan) -> Score:
        """What the plan scores, and luck of the file's own."""
        luck = self._strays(plan, "plan", self._task.luck) + self._strays(plan, "file", self._task.of_file)
        return self._score(plan, luck)

    def seconds(self, plan: PrecisionPlan) -> float:
        """Nothing is timed."""
        return 0.0

    def _strays(self, plan: PrecisionPlan, what: str, deviation: float) -> float:
        seed = hashlib.sha256(f"{what} {plan.digest} {self._draw}".encode()).digest()
        return deviation * float(np.random.default_rng(list(seed)).standard_normal()) if _lowered(plan) else 0.0

    def _score(self, plan: PrecisionPlan, luck: float) -> Score:
        right = FP32 - sum(self._harm[group] for group in _lowered(plan)) + luck
        value = (round(right) if self._task.whole else right) / SAMPLES
        return Score(value, (FP32 / SAMPLES * (1 - FP32 / SAMPLES) / SAMPLES) ** 0.5, SAMPLES)


def _lowered(plan: PrecisionPlan) -> list[str]:
    return [group for group, precision in plan.assignments if precision is INT8]


def grouping_of(model: str) -> Grouping:
    """The groups of a real network, as the paper's table has them."""
    store = BENCH.run(Job(model, "int8", True, "ilp", "random", TARGET)).store
    return store[groups_of(states(store.settings)[0])]


def searched(model: str, grouping: Grouping) -> Iterator[Row]:
    """Every ranking on every draw of harms."""
    ladder = (FP16, INT8)
    latency = LatencyModel(grouping, target_from_name("l4"), MODELS[model].batch)
    cost = Cost(latency.plan_ms, kernel_terms(latency, grouping.options(ladder)))
    groups = tuple(group.id for group in grouping.groups if group.allows(INT8))
    high = latency.plan_ms(grouping.uniform(FP16))
    for task, draw in product(TASKS, range(DRAWS)):
        generator = np.random.default_rng(draw)
        harm = 10 ** generator.uniform(-DECADES, 0, len(groups))
        harm *= task.lost / harm.sum()
        exact = {(group, INT8): float(h) for group, h in zip(groups, harm, strict=True)}
        exact |= {(group.id, grouping.widest(group)): 0.0 for group in grouping.groups}
        best = Frontier(cost.terms, grouping, exact).cheapest(_ALLOWED).plan
        assert best is not None, "high precision alone does no harm"
        for name, scores_of in RANKINGS.items():
            scores = dict(zip(groups, scores_of(harm, np.random.default_rng(draw + 1000)).tolist(), strict=True))
            ranking = Ranking(name, draw, tuple(group.id for group in grouping.groups), {INT8: scores})
            evaluate = MadeUp(dict(zip(groups, harm.tolist(), strict=True)), task, draw)
            found = search_from_name("ilp").run(
                Problem(grouping, ladder, ranking, evaluate, cost, TARGET * FP32 / SAMPLES)
            )
            share, optimum = found.chosen.latency_ms / high, latency.plan_ms(best) / high
            yield Row(model, name, task.name, draw, share, optimum, len(found.path))


def table(rows: list[Row]) -> Iterator[str]:
    """The mean latency by network, task and ranking, and its share of a random order's on the same draws."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row.model, row.task][row.ranking].append(row)
    yield "| network | samples | ranking | latency | of random's | ± | plans |"
    yield "|---|---|---|---:|---:|---:|---:|"
    for (model, task), rankings in found.items():
        chance = {row.draw: row.latency for row in rankings["random"]}
        optimum = {row.draw: row.optimum for row in rankings["random"]}
        yield f"| {model} | {task} | the best plan there is | {_compared(optimum, chance)} | |"
        for name, own in rankings.items():
            compared = _compared({row.draw: row.latency for row in own}, chance)
            yield f"| {model} | {task} | {name} | {compared} | {mean(row.plans for row in own):.0f} |"


def _compared(latency: Mapping[int, float], chance: Mapping[int, float]) -> str:
    """Mean latency, mean share of a random order's latency on the same draw, and the standard error of that."""
    shares = [own / chance[draw] for draw, own in latency.items()]
    return f"{mean(latency.values()):.3f} | {mean(shares):.3f} | {stdev(shares) / len(shares) ** 0.5:.3f}"


_INTRODUCTION = f"""# What a ranking is worth to `ilp`

`python -m bench.ranking_worth`: groups, **modelled** latencies (L4) and the search are those of the networks, INT8 at
{TARGET}; scores are made up: harms of groups over {DECADES:g} decades that add up to what uniform INT8 loses of
{SAMPLES} samples, and luck of every plan and file; both may lose {_ALLOWED:g}. Where files have no luck of their own,
scores are whole samples. Means over {DRAWS} draws, the share of a random order's latency with its
standard error; with luck a plan beyond the best there is may pass. Plans are counted without their files."""


def main() -> None:
    """Search what is missing, network by network, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ranking_worth", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    rows = [Row(**json.loads(line)) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    for model in parser.parse_args().models:
        if not any(row.model == model for row in rows):
            own: list[Any] = list(searched(model, grouping_of(model)))
            rows += own
            with ROWS.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(asdict(row)) + "\n" for row in own))
            print(model, "done", flush=True)
    write_text(ROWS.with_suffix(".md"), "\n".join([_INTRODUCTION, "", *table(rows)]) + "\n")


if __name__ == "__main__":
    main()
