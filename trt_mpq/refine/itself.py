"""Plans refined for themselves: biases corrected under exactly the plan, weights rounded as was learned for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trt_mpq.emit import BiasCorrections, Emitter, Own, Refinements, Roundings
from trt_mpq.emit.network import Network
from trt_mpq.types import PrecisionPlan

Correct = Callable[[Refinements, PrecisionPlan], BiasCorrections]
"""Measures the bias corrections of exactly one plan that is refined otherwise already."""


class ForItself:
    """Writes every plan with refinements of its own, which are made when it is first written.

    Args:
        network: The network.
        correct: Corrects the biases of a plan, with whatever else is refined in it.
        kept: The refinements that all plans share, in the place of which come those of its own.
        roundings: How weights are rounded in place of the roundings shared; None leaves these.
    """

    def __init__(self, network: Network, correct: Correct, kept: Refinements, roundings: Roundings | None) -> None:
        self._network, self._correct, self._kept, self._roundings = network, correct, kept, roundings
        self._made: dict[str, Own] = {}

    def own(self, plan: PrecisionPlan) -> Own:
        """The plan's own refinements, for which the calibration data is run once."""
        if plan.digest not in self._made:
            rounded = self._refined(plan, Own({}, self._roundings))
            self._made[plan.digest] = Own(self._correct(rounded, plan), self._roundings)
        return self._made[plan.digest]

    def emitter(self, plan: PrecisionPlan) -> Emitter:
        """Writes `plan` with its own refinements."""
        return self._network.emitter(self._refined(plan, self.own(plan)))

    def marks(self, plan: PrecisionPlan) -> tuple[str, ...]:
        """What tells `plan` so refined from the plain one, in words for a key; nothing is made for it."""
        return self._refined(plan, Own({}, self._roundings)).marks(plan)

    def _refined(self, plan: PrecisionPlan, own: Own) -> Refinements:
        return replace(self._kept, own={plan.digest: own})
