"""Which points a fit may see. The draw stands here and was made before the first fit; `seed` is the issue's number.

A third of the architectures of every kind is held out, and so are two devices with all that ran on them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from bench.published.networks import NETWORKS
from bench.published.rows import Point

SEED = 16
_DEVICES = ("a10", "a100", "a30", "l4", "l40s", "orin-agx", "orin-nano", "orin-nx", "t4")
_SHARE = 3
_HELD_DEVICES = 2


def held_out() -> tuple[frozenset[str], frozenset[str]]:
    """Architectures and devices that no fit sees."""
    draw, kinds = random.Random(SEED), defaultdict(list)
    for one in NETWORKS.values():
        if one.published[0][0] not in kinds[one.kind]:
            kinds[one.kind].append(one.published[0][0])
    architectures = [name for names in kinds.values() for name in draw.sample(names, round(len(names) / _SHARE))]
    return frozenset(architectures), frozenset(draw.sample(_DEVICES, _HELD_DEVICES))


def split(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """What a fit may see, and what judges it."""
    architectures, devices = held_out()
    judged = [point for point in points if point.architecture in architectures or point.device in devices]
    return [point for point in points if point not in judged], judged
