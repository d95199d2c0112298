"""When the evaluation of a plan may stop early: the test that fits the metric, and the portions it looks at."""

from __future__ import annotations

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import samples_at_once
from trt_mpq.evaluate.metrics import Scores, TaskMetric
from trt_mpq.evaluate.sequential import BettingTest, BootstrapTest, PairedTest, Schedule, data_order, growing_portions

_FIRST, _GROWTH = 128, 1 / 8
"""Samples before the first look of the test by betting, which may look as often as it likes, and the steps between."""
_FIRST_OF_FEW, _DOUBLING = 256, 1.0
"""The same for the bootstrap, which pays for each look, and for sequences, which are put together by length."""


def schedule_for(metric: TaskMetric, samples: Samples, batch: int, confidence: float, seed: int) -> Schedule:
    """Order and portions in which evaluations run.

    A metric of the user's sees all samples at once, in the order of the data, and what it returns for some of them
    says nothing about the rest: it is never stopped early.
    """
    if confidence >= 1 or metric.statistic is None or metric.in_order:
        return data_order(samples.count)
    often = metric.bounds is not None and samples.padding is None
    first, growth = (_FIRST, _GROWTH) if often else (_FIRST_OF_FEW, _DOUBLING)
    return growing_portions(
        samples.count, seed, first=first, growth=growth, multiple=samples_at_once(samples, batch)
    )  # fmt: skip


def paired_test(
    metric: TaskMetric, schedule: Schedule, baseline: Scores | None, required: float, confidence: float
) -> PairedTest | None:
    """Compares plans with what `metric` keeps of FP32 on each sample, `baseline` [N, ...]; None if it never stops."""
    if not schedule.looks or baseline is None or metric.statistic is None:
        return None
    drawn, alpha = schedule.draw(baseline), 1 - confidence
    if metric.bounds is not None:
        return BettingTest(drawn, required, metric.bounds, alpha)
    return BootstrapTest(drawn, required, metric.statistic, alpha, schedule.looks)
