"""AdaRound's optimization of one layer: which weights to round up and which down.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", section 3: a weight becomes
``low + h(V) (high - low)`` with the rectified sigmoid ``h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)``; V is learned by
gradient descent on what the layer computes, while a regularizer ``1 - |2 h(V) - 1|^beta``, with beta annealed, drives
every h(V) to 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_mpq.numerics import BoolArray, FloatArray
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.torch_autograd import TorchGraph, import_torch
from trt_mpq.runtime.torch_operators import Tensor

_ZETA, _GAMMA = 1.1, -0.1
_BETAS = (20.0, 2.0)
_WARM_UP = 0.2
"""Share of the steps before the regularizer sets in (the authors' value, as those above)."""
_TRAVEL = 10.0
"""Learning rate times steps: how far Adam can move V, which goes through all of h within +-2.4. The authors' 10,000
steps of 0.001."""
_REGULARIZATION = 1.0
"""Weight of the mean regularizer beside the reconstruction error in units of that of nearest rounding. The authors
weigh a sum of regularizers by 0.01 against the error as it is, which ties the balance to a layer's size and scale."""


@dataclass(frozen=True)
class Portion:
    """What a layer reads in the quantized network for some samples, by name, and what it should write."""

    feeds: Arrays
    target: Array


@dataclass(frozen=True)
class Choices:
    """The two values that every element of weight `name` may take, and the FP32 value between them."""

    name: str
    exact: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def nearest(self) -> BoolArray:
        """Which elements are nearer to `high`."""
        return np.asarray(self.high - self.exact < self.exact - self.low)


def learn_choices(
    layer: TorchGraph, choices: Choices, portions: Sequence[Portion], steps: int, random: np.random.Generator
) -> BoolArray | None:
    """Which elements take `high`, so that the layer writes what it should.

    Args:
        layer: The layer, with one output.
        choices: Its weight.
        portions: Data to learn from; every step takes one, in random order.
        steps: How many steps.
        random: Draws that order.

    Returns:
        Array of the weight's shape; None if nearest rounding is no worse on `portions`.
    """
    return _Learner(layer, choices, portions).learned(steps, random)


class _Learner:
    def __init__(self, layer: TorchGraph, choices: Choices, portions: Sequence[Portion]) -> None:
        self._torch = torch = import_torch("learned rounding (--adaround)")
        self._layer, self._choices = layer, choices
        self._portions = [
            ({name: torch.from_numpy(value) for name, value in portion.feeds.items()}, torch.from_numpy(portion.target))
            for portion in portions
        ]
        self._low, self._step = torch.tensor(choices.low), torch.tensor(choices.high - choices.low)

    def learned(self, steps: int, random: np.random.Generator) -> BoolArray | None:
        nearest = self._error_of(self._choices.nearest)
        if nearest == 0.0:
            return None
        variable = self._initial().requires_grad_()
        optimizer = self._torch.optim.Adam([variable], lr=_TRAVEL / steps)
        for step, number in enumerate(_order(len(self._portions), steps, random)):
            optimizer.zero_grad()
            h = self._rectified(variable)
            loss = self._error(number, h) / nearest
            if step >= _WARM_UP * steps:
                loss = loss + _REGULARIZATION * (1 - (2 * h - 1).abs() ** _beta(step / steps)).mean()
            loss.backward()
            optimizer.step()
        up = np.asarray((variable > 0).numpy(), bool)
        return up if self._error_of(up) < nearest else None

    def _initial(self) -> Tensor:
        """V at which h(V) gives the FP32 weight."""
        width = self._choices.high - self._choices.low
        share = (self._choices.exact - self._choices.low) / np.where(width > 0, width, 1)
        return self._torch.logit(self._torch.tensor((np.clip(share, 0, 1) - _GAMMA) / (_ZETA - _GAMMA)))

    def _rectified(self, variable: Tensor) -> Tensor:
        return ((_ZETA - _GAMMA) * variable.sigmoid() + _GAMMA).clamp(0, 1)

    def _error(self, number: int, share: Tensor) -> Any:
        """Mean squared error of what the layer writes for one portion, with its weight that share of the way up."""
        feeds, target = self._portions[number]
        (written,) = self._layer.run({**feeds, self._choices.name: self._low + share * self._step}).values()
        return ((written - target) ** 2).mean()

    def _error_of(self, up: BoolArray) -> float:
        """The same over all data, each portion weighed by its size."""
        share = self._torch.tensor(up.astype(np.float32))
        with self._torch.no_grad():
            errors = [float(self._error(i, share)) for i in range(len(self._portions))]
        return float(np.average(errors, weights=[target.numel() for _, target in self._portions]))


def _beta(done: float) -> float:
    """The regularizer's exponent, falling linearly once it has set in."""
    first, last = _BETAS
    return first + (last - first) * (done - _WARM_UP) / (1 - _WARM_UP)


def _order(count: int, steps: int, random: np.random.Generator) -> Sequence[int]:
    """Numbers below `count`, all of them before any comes again."""
    rounds = -(-steps // count)
    return [int(number) for _ in range(rounds) for number in random.permutation(count)][:steps]
