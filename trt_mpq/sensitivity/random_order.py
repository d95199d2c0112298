"""A random order: the control that every other metric has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trt_mpq.sensitivity.base import SensitivityInputs
from trt_mpq.types import Progress, Ranking


@dataclass(frozen=True)
class RandomOrder:
    """Scores are a random permutation of 0, 1, 2, ... over the groups, the same one for every precision."""

    name: ClassVar[str] = "random"

    def rank(self, inputs: SensitivityInputs, progress: Progress | None = None) -> Ranking:
        """Permute the groups; costs no forward pass."""
        groups = inputs.network.grouping.groups
        places = np.random.default_rng(inputs.seed).permutation(len(groups))
        place = {group.id: float(at) for group, at in zip(groups, places, strict=True)}
        return inputs.ranking(self.name, lambda group, _: place[group.id])
