"""Fits shares of the devices and traits of all kernels to the part of the points that a fit may see.

`python -m bench.published.fit` prints them. The shares of one family are those of all its devices; a family without
points has those of the one it came from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.published.judge import compared, errors
from bench.published.modelled import flops, modelled_ms
from bench.published.rows import Point, points
from bench.published.split import split
from trt_mpq.latency.roofline import TRAITS, Traits
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Precision, Target

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Turing": ("t4",),
    "Ampere": ("a100", "a30", "a10", "rtx3090"),
    "Orin": ("orin-agx", "orin-nx", "orin-nano"),
    "Ada": ("l40s", "l4", "rtx4090"),
}
"""Families with published latencies, and their devices."""
FOLLOWERS: Mapping[str, str] = {
    **dict.fromkeys(("h100", "h200", "b200"), "Ampere"),
    **dict.fromkeys(("rtx5090", "rtx-pro-6000", "gb10"), "Ada"),
    "thor": "Orin",
}
"""Devices of families without, and the family whose shares they take."""
_FAMILY_OF = {device: family for family, devices in FAMILIES.items() for device in devices} | FOLLOWERS
_TARGETS = {device: target_from_name(device) for device in _FAMILY_OF}
_START: Mapping[str, Mapping[str, float]] = {
    "Turing": {"launch_us": 4.0, "compute_efficiency": 0.5, "eight_bit_efficiency": 0.45, "memory_efficiency": 0.75},
    "Ampere": {"launch_us": 3.5, "compute_efficiency": 0.6, "eight_bit_efficiency": 0.5, "memory_efficiency": 0.75},
    "Orin": {"launch_us": 8.0, "compute_efficiency": 0.5, "eight_bit_efficiency": 0.45, "memory_efficiency": 0.7},
    "Ada": {"launch_us": 2.5, "compute_efficiency": 0.6, "eight_bit_efficiency": 0.55, "memory_efficiency": 0.8},
}
_SPREAD = {"launch_us": 0.5, "compute_efficiency": 0.25, "eight_bit_efficiency": 0.25, "memory_efficiency": 0.1}
"""How far from the start each is expected, as the standard deviation of its logarithm."""
_TRAIT_SPREAD = {
    "cuda_share": 0.3, "depthwise_share": 0.5, "attention_16": 0.5, "attention_8": 0.5, "narrow_share": 0.3,
    "tile": 1.0,
}  # fmt: skip
_START_TRAITS = replace(
    TRAITS, cuda_share=0.7, depthwise_share=0.3, attention_16=0.4, attention_8=0.25, narrow_share=0.85, padding=1.0,
    tile=4096.0,
)  # fmt: skip
_LOG, _RATIO = 0.25, 0.05
"""Errors of a time's logarithm and of a ratio that count alike."""
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """Shares by family, and traits."""

    shares: Mapping[str, Mapping[str, float]]
    traits: Traits

    def targets(self) -> dict[str, Target]:
        """Every device with the shares of its family."""
        return {
            device: replace(target, **self.shares[_FAMILY_OF[device]])  # type: ignore[arg-type]
            for device, target in _TARGETS.items()
        }

    @classmethod
    def at(cls, position: _Array) -> Fitted:
        """What a vector of logarithms stands for, zero for the start."""
        factors = iter(np.exp(position).tolist())
        shares = {
            family: {name: min(1.0, value * next(factors)) if name != "launch_us" else value * next(factors)
                     for name, value in start.items()}
            for family, start in _START.items()
        }  # fmt: skip
        traits: dict[str, Any] = {name: getattr(_START_TRAITS, name) * next(factors) for name in _TRAIT_SPREAD}
        return cls(shares, replace(_START_TRAITS, **traits))


def fit(seen: Sequence[Point]) -> Fitted:
    """The shares and traits that explain what is seen, without going further from the start than that needs.

    Every network on a device weighs the less the more batches of it were published, by the square root.
    """
    from scipy.optimize import least_squares

    spread = np.array([_SPREAD[name] for start in _START.values() for name in start] + list(_TRAIT_SPREAD.values()))
    counts = Counter((point.network, point.device) for point in seen)

    def residuals(position: _Array) -> _Array:
        fitted = Fitted.at(position)
        targets, found = fitted.targets(), []
        for point in seen:
            weight = counts[point.network, point.device] ** -0.25
            ms = {precision: modelled_ms(point, precision, fitted.traits, targets) for precision in point.ms}
            found += [weight * math.log(ms[p] / point.ms[p]) / _LOG for p in ms]
            for precision in (Precision.INT8, Precision.FP8):
                if (ratio := point.ratio(precision)) is not None:
                    found.append(weight * (ms[precision] / ms[Precision.FP16] - ratio) / _RATIO)
        return np.array([*found, *(0.7 * position / spread)])

    return Fitted.at(least_squares(residuals, np.zeros(len(spread)), loss="soft_l1", max_nfev=25).x)


def main() -> None:
    """Fit, and say what came of it on the part that was seen."""
    seen, _ = split(points(flops()))
    fitted = fit(seen)
    for family, shares in fitted.shares.items():
        print(family, {name: round(value, 3) for name, value in shares.items()})
    print(fitted.traits)
    targets = fitted.targets()
    print(errors(compared(seen, lambda point, precision: modelled_ms(point, precision, fitted.traits, targets))))


if __name__ == "__main__":
    main()
