"""Inter-layer dependency: what quantizing a group costs once the less sensitive ones are quantized already.

"Augmenting Hessians with Inter-Layer Dependencies for Mixed-Precision Post-Training Quantization" (Schaefer et al.,
2023, arXiv 2306.04879) adds to a layer's score what other layers change in it. The paper is known to us by its
abstract; this is our reading, with the loss itself in place of a Hessian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from trt_mpq.errors import SettingsError
from trt_mpq.sensitivity.base import SensitivityInputs, watched
from trt_mpq.sensitivity.lowering import Growth, loss_growths, lowering_passes
from trt_mpq.types import LayerGroup, Precision, Progress, Ranking

_Costs = Callable[[Sequence[tuple[str, ...]]], list[float]]
"""Loss growth with each of these sets of groups lowered."""


@dataclass(frozen=True)
class InterLayerDependency:
    """Score = loss growth with this group and all less sensitive ones quantized.

    In each round every remaining group is lowered on top of those already chosen, and the best of them, an equal
    share a round, are chosen for good. Scores increase strictly in the order of choice: where the loss did not grow
    from one to the next, by the smallest step there is. With one round it is `task-loss` up to that, with as
    many rounds as groups the exact greedy order. Every precision is ranked on its own, the other groups in FP32.
    What a group adds by itself is its score less the loss growth with the groups chosen in earlier rounds.

    Args:
        rounds: Times the remaining groups are scored anew. Four cost 2.5 passes over the samples per group and
            precision, and 3 per precision; as many as L groups, (L + 1) / 2.
    """

    rounds: int = 4

    name: ClassVar[str] = "dependency"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise SettingsError("dependency sensitivity needs at least one round")

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Choose the order of each precision."""
        growths = inputs.spread(loss_growths)
        allowed = {p: tuple(group for group in inputs.groups if group.allows(p)) for p in inputs.candidates}
        rounds = [list(self._portions(len(groups))) for groups in allowed.values()]
        total = sum(len(own[1:]) + sum(scored for scored, _ in own) for own in rounds)
        measured: list[Growth] = []

        def costs(precision: Precision, sets: Sequence[tuple[str, ...]]) -> list[float]:
            found = list(watched(growths([(ids, precision) for ids in sets]), total, progress, len(measured)))
            measured.extend(found)
            return [growth.loss for growth in found]

        chosen = {p: tuple(self._choices(groups, partial(costs, p))) for p, groups in allowed.items()}
        scores = {p: _increasing(own) for p, own in chosen.items()}
        harms = {p: {choice.group.id: choice.cost - choice.before for choice in own} for p, own in chosen.items()}
        passes = lowering_passes(inputs, measured)
        return replace(inputs.ranking(self.name, lambda group, p: scores[p][group.id], passes), harms=harms)

    def _choices(self, groups: tuple[LayerGroup, ...], costs_of: _Costs) -> Iterator[_Chosen]:
        """Groups in the order in which they are chosen."""
        chosen: tuple[str, ...] = ()
        for _, share in self._portions(len(groups)):
            ids = [group.id for group in groups]
            sets = [(*chosen, group) for group in ids]
            before, *found = costs_of([chosen, *sets]) if chosen else [0.0, *costs_of(sets)]
            costs = dict(zip(ids, found, strict=True))
            ranked = sorted(groups, key=lambda group: (costs[group.id], group.index))
            yield from (_Chosen(group, costs[group.id], before) for group in ranked[:share])
            chosen = (*chosen, *(group.id for group in ranked[:share]))
            groups = tuple(ranked[share:])

    def _portions(self, remaining: int) -> Iterator[tuple[int, int]]:
        """How many groups each round scores, and how many of them it chooses."""
        for left in range(self.rounds, 0, -1):
            if remaining:
                share = math.ceil(remaining / left)
                yield remaining, share
                remaining -= share


@dataclass(frozen=True)
class _Chosen:
    """A group, its cost in the round that chose it, and that of the groups chosen in earlier rounds alone."""

    group: LayerGroup
    cost: float
    before: float


def _increasing(choices: Iterable[_Chosen]) -> dict[str, float]:
    """Group id to its cost, raised just above that of the choice before it where it is not."""
    scores: dict[str, float] = {}
    last = -math.inf
    for choice in choices:
        last = max(choice.cost, math.nextafter(last, math.inf))
        scores[choice.group.id] = last
    return scores
