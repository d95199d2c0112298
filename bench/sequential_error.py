"""How often the sequential tests decide wrongly, and how many samples they take: simulated evaluation sets.

Betting: every case is one evaluation set of 0/1 scores, whose plan and FP32 disagree on a share of the samples and
whose true score is a given number of samples away from the required one; 10,000 random orders of it are judged, at
the looks of the product. A case just below the target tests wrong acceptance, one on the target or above wrong
rejection. Bootstrap: the same with rank correlation, whose level is asymptotic.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trt_mpq.evaluate.metrics import Scores, metric_from_name
from trt_mpq.evaluate.sequential import BettingTest, BootstrapTest, Schedule, growing_portions
from trt_mpq.types import TensorSpec

_PREDICTION = (TensorSpec("prediction", "float32", ("batch", 1)),)
RUNS = 10_000
BOOTSTRAP_RUNS = 100
GRID = (
    (1000, 0.99, 0.01), (1000, 0.99, 0.03), (1000, 0.99, 0.1), (1000, 0.999, 0.01), (1000, 0.999, 0.1),
    (5000, 0.99, 0.03), (5000, 0.999, 0.01),
)  # fmt: skip
"""Samples N, target, share of samples on which plan and FP32 disagree."""
FP32_ACCURACY = 0.9162
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """One evaluation set.

    Attributes:
        test: "betting" or "bootstrap".
        samples: Its size N.
        target: Share of FP32's score that is required.
        disagreement: Share of samples on which plan and FP32 differ (betting); noise of the plan (bootstrap).
        margin: True score minus the required one, in samples (betting) or as a score (bootstrap); below 0 it misses.
        confidence: Stated confidence.
        runs: Random orders judged.
    """

    test: str
    samples: int
    target: float
    disagreement: float
    margin: float
    confidence: float
    runs: int


@dataclass(frozen=True)
class Outcome:
    """What came of a case: wrong and early decisions, and mean samples run."""

    case: Case
    wrong: int
    early: int
    mean_samples: float


def cases() -> Iterator[Case]:
    for confidence in (0.999, 0.95):
        for samples, target, disagreement in GRID:
            slack = (1 - target) * FP32_ACCURACY * samples
            for margin in (-0.5 * disagreement * samples, -1.0, 0.0, round(0.9 * slack, 1)):
                yield Case("betting", samples, target, disagreement, margin, confidence, RUNS)
    for margin in (-0.0001, 0.0):
        yield Case("bootstrap", 800, 0.99, 0.1, margin, 0.95, BOOTSTRAP_RUNS)


def outcome(case: Case) -> Outcome:
    generator = np.random.default_rng(0)
    plan, make = (_binary if case.test == "betting" else _correlated)(case, generator)
    keeps = case.margin >= 0
    wrong = early = run = 0
    for seed in range(case.runs):
        schedule = _schedule(case, seed)
        verdict, samples = judged(make(schedule), schedule.draw(plan), schedule)
        wrong += verdict is not None and verdict != keeps
        early += verdict is not None
        run += samples
    return Outcome(case, wrong, early, round(run / case.runs, 1))


def judged(test: BettingTest | BootstrapTest, plan: Scores, schedule: Schedule) -> tuple[bool | None, int]:
    """Verdict and samples run; None where all samples had to run, because no look came after the first decision."""
    if isinstance(test, BettingTest):
        decision = test.decision(plan)
        seen = [] if decision is None else [look for look in schedule.looks if look >= decision[1]]
        return (decision[0], seen[0]) if decision and seen else (None, len(plan))
    for look in schedule.looks:
        verdict = test.decide(plan[:look])
        if verdict is not None:
            return verdict, look
    return None, len(plan)


def _schedule(case: Case, seed: int) -> Schedule:
    first, growth = (128, 1 / 8) if case.test == "betting" else (256, 1.0)
    return growing_portions(case.samples, seed, first=first, growth=growth, multiple=32)


Made = tuple[Scores, Callable[[Schedule], BettingTest | BootstrapTest]]


def _binary(case: Case, generator: np.random.Generator) -> Made:
    """Sorted by FP32's score, as data sorted by class may be."""
    right = round(FP32_ACCURACY * case.samples)
    baseline = (np.arange(case.samples) < right).astype(float)
    net = round(case.margin - (1 - case.target) * right)  # what the plan gains on FP32 in samples
    gained = max(0, round((case.disagreement * case.samples + net) / 2))
    plan = baseline.copy()
    plan[generator.choice(right, gained - net, replace=False)] = 0
    plan[right + generator.choice(case.samples - right, min(gained, case.samples - right), replace=False)] = 1
    required = float(plan.mean()) - case.margin / case.samples
    return plan, lambda schedule: BettingTest(schedule.draw(baseline), required, (0.0, 1.0), 1 - case.confidence)


def _correlated(case: Case, generator: np.random.Generator) -> Made:
    gold = generator.normal(size=case.samples)
    predicted = 0.87 * gold + 0.5 * generator.normal(size=case.samples)
    noisy = predicted + case.disagreement * generator.normal(size=case.samples)
    baseline, plan = (np.stack([values, gold], axis=1) for values in (predicted, noisy))
    rank_correlation = metric_from_name("spearman", has_labels=True, outputs=_PREDICTION).statistic
    assert rank_correlation is not None
    required = rank_correlation(plan) - case.margin
    return plan, lambda schedule: BootstrapTest(
        schedule.draw(baseline), required, rank_correlation, 1 - case.confidence, schedule.looks
    )


def markdown(outcomes: list[Outcome]) -> str:
    lines = [
        "| test | N | target | disagreement | true margin | confidence | runs | wrong | allowed | decided early | mean samples |",  # noqa: E501
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for o in outcomes:
        c = o.case
        lines.append(
            f"| {c.test} | {c.samples} | {c.target} | {c.disagreement} | {c.margin:+g} | {c.confidence} | {c.runs} | "
            f"{o.wrong} | {(1 - c.confidence) * c.runs:.0f} | {o.early / c.runs:.1%} | {o.mean_samples:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate every case; write results/sequential-error.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(outcome, cases()))
    RESULTS.joinpath("sequential-error.json").write_text(
        json.dumps([asdict(o) for o in outcomes], indent=1) + "\n", encoding="utf-8"
    )
    RESULTS.joinpath("sequential-error.md").write_text(markdown(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
