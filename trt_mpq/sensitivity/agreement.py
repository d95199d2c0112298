"""Whether sensitivity metrics order the groups alike, so that a user sees which one to trust on this model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trt_mpq.sensitivity.task_loss import TaskLoss
from trt_mpq.types import Precision, Ranking

REFERENCE = TaskLoss.name
"""What every metric tries to tell: the loss with each group really quantized."""


@dataclass(frozen=True)
class Agreement:
    """Rank correlations between metrics.

    Attributes:
        metrics: Their names; the search uses the first.
        samples_run: Samples each of them ran forward.
        tau: Kendall's tau-b per precision, in rows and columns of `metrics`; None where it is not defined, because a
            metric tells no two groups apart.
    """

    metrics: tuple[str, ...]
    samples_run: tuple[float, ...]
    tau: Mapping[Precision, tuple[tuple[float | None, ...], ...]]

    def with_reference(self, metric: str) -> dict[Precision, float | None]:
        """Tau of `metric` with the loss of really quantizing each group."""
        row, column = self.metrics.index(metric), self.metrics.index(REFERENCE)
        return {precision: matrix[row][column] for precision, matrix in self.tau.items()}


@dataclass(frozen=True)
class Sensitivities:
    """All rankings of a run, the one of the search first, and their agreement if there are several."""

    rankings: tuple[Ranking, ...]
    agreement: Agreement | None


def agreement_of(rankings: Sequence[Ranking]) -> Agreement:
    """How well `rankings` of the same groups agree; each has scores for the same groups and precisions."""
    first = rankings[0]
    tau = {p: tuple(tuple(_tau(a.scores[p], b.scores[p]) for b in rankings) for a in rankings) for p in first.scores}
    return Agreement(tuple(r.metric for r in rankings), tuple(r.forward_passes for r in rankings), tau)


def _tau(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """Kendall, "The treatment of ties in ranking problems" (1945)."""
    from scipy.stats import kendalltau

    if len(one) < 2:
        return None
    tau = float(kendalltau(list(one.values()), [other[group] for group in one]).statistic)
    return None if math.isnan(tau) else tau
