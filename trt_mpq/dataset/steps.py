"""How a network with states runs through sequences: step by step, each fed what the one before gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from trt_mpq.runtime.base import Array, Arrays, Session


@dataclass(frozen=True)
class Steps:
    """Which inputs have an entry for each step, and which are made of outputs.

    Attributes:
        states: Input to the output that it is at the next step.
        inputs: Input with an entry for each step, [n, steps, ...], to the axis of the model's input that counts rows.
        outputs: Output to the axis that counts rows, where that is not the first.
    """

    states: Mapping[str, str]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int] = field(default_factory=dict)

    def along(self, session: Session, feeds: Mapping[str, Array]) -> Iterator[tuple[Arrays, Arrays]]:
        """What the model takes and gives at each step, as it lays out its inputs and outputs."""
        taken = dict(feeds)
        for step in range(feeds[next(iter(self.inputs))].shape[1]):
            taken |= {name: _entry(feeds[name][:, step], axis) for name, axis in self.inputs.items()}
            given = session.run(taken)
            yield dict(taken), given
            taken |= {name: given[output] for name, output in self.states.items()}

    def run(self, session: Session, feeds: Mapping[str, Array]) -> Arrays:
        """Every output at every step, [n, steps, ...]; at the last step alone [n, ...] where its size changes."""
        given = [outputs for _, outputs in self.along(session, feeds)]
        return {name: _stacked([rows_first(one[name], self.outputs.get(name)) for one in given]) for name in given[0]}


def rows_first(value: Array, axis: int | None) -> Array:
    """`value` with the `axis` that counts its rows as the first; as it is where that is None."""
    return value if axis is None else np.moveaxis(value, axis, 0)


def _entry(rows: Array, axis: int) -> Array:
    return np.ascontiguousarray(np.moveaxis(rows, 0, axis))


def _stacked(steps: list[Array]) -> Array:
    alike = len({value.shape for value in steps}) == 1
    return np.stack(steps, axis=min(1, steps[0].ndim)) if alike else steps[-1]
