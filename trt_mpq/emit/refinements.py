"""What refinement adds to the numbers of a plan: roundings, codes and scales of weights, corrections of biases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trt_mpq.numerics import BoolArray, FloatArray, QuantizedWeight
from trt_mpq.types import Precision, PrecisionPlan

BiasCorrections = Mapping[tuple[str, Precision], FloatArray]
"""(anchor, precision) to what is added to the bias there, shape ``(output channels,)``."""

Roundings = Mapping[tuple[str, Precision], BoolArray]
"""(weight, precision) to which of its elements are rounded up instead of down, in the weight's shape."""

RefinedWeights = Mapping[tuple[str, Precision], QuantizedWeight]
"""(weight, precision) to codes and scales that were found for it, in place of the nearest with the largest scales."""


@dataclass(frozen=True)
class Own:
    """What was made for exactly one plan.

    Attributes:
        corrections: Its bias corrections.
        roundings: Its roundings of weights; None if it has those that all plans share.
    """

    corrections: BiasCorrections
    roundings: Roundings | None = None


@dataclass(frozen=True)
class Refinements:
    """What is applied to a group in the precision that it was measured for.

    Attributes:
        corrections: Bias corrections measured under the uniform plan of their precision.
        roundings: Roundings of weights; those that are missing are rounded to nearest.
        own: Digest of a plan to what was made for exactly that plan, in place of the above.
        weights: Codes and scales of weights that none of the roundings are for.
    """

    corrections: BiasCorrections = field(default_factory=dict)
    roundings: Roundings = field(default_factory=dict)
    own: Mapping[str, Own] = field(default_factory=dict)
    weights: RefinedWeights = field(default_factory=dict)

    def corrections_of(self, plan: PrecisionPlan) -> BiasCorrections:
        """The bias corrections that `plan` gets."""
        own = self.own.get(plan.digest)
        return self.corrections if own is None else own.corrections

    def roundings_of(self, plan: PrecisionPlan) -> Roundings:
        """The roundings of weights that `plan` gets."""
        own = self.own.get(plan.digest)
        return self.roundings if own is None or own.roundings is None else own.roundings

    def marks(self, plan: PrecisionPlan) -> tuple[str, ...]:
        """What tells `plan` thus refined from the plain one, in words for a key; none if nothing applies to it."""
        held = plan.counts()
        corrected = {precision for _, precision in self.corrections}
        biases = ["own"] if plan.digest in self.own else [p.value for p in held if p in corrected]
        roundings = self.roundings_of(plan)
        digests = self._digests if roundings is self.roundings else _digests(roundings)
        codes = self._weight_digests
        return (
            *biases,
            *(f"{p}~{digests[p]}" for p in held if p in digests),
            *(f"{p}={codes[p]}" for p in held if p in codes),
        )

    @property
    def digest(self) -> str:
        """What tells these refinements from others: every correction and every rounding."""
        digest = hashlib.sha256()
        for plan, own in ((None, Own(self.corrections, self.roundings)), *sorted(self.own.items())):
            digest.update(repr(plan).encode())
            for key, shift in sorted(own.corrections.items(), key=lambda item: item[0]):
                digest.update(repr(key).encode() + shift.tobytes())
            digest.update(repr(None if own.roundings is None else sorted(_digests(own.roundings).items())).encode())
        digest.update(repr(sorted(self._weight_digests.items())).encode() if self.weights else b"")
        return digest.hexdigest()

    @cached_property
    def _weight_digests(self) -> dict[Precision, str]:
        digests = {precision: hashlib.sha256() for _, precision in self.weights}
        for (weight, precision), found in sorted(self.weights.items(), key=lambda item: item[0]):
            digests[precision].update(weight.encode() + found.values.tobytes())
        return {precision: digest.hexdigest()[:16] for precision, digest in digests.items()}

    @cached_property
    def _digests(self) -> dict[Precision, str]:
        return _digests(self.roundings)


def _digests(roundings: Roundings) -> dict[Precision, str]:
    digests = {precision: hashlib.sha256() for _, precision in roundings}
    for (weight, precision), up in sorted(roundings.items(), key=lambda item: item[0]):
        digests[precision].update(weight.encode() + np.packbits(up).tobytes())
    return {precision: digest.hexdigest()[:16] for precision, digest in digests.items()}
