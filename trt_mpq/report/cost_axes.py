"""What the plans of a search can be drawn against: latency, and energy and size where they are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from trt_mpq.report import wording
from trt_mpq.report.data import Report


class Costed(Protocol):
    """A plan whose costs are known, or some of them."""

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds of a batch."""

    @property
    def energy_mj(self) -> float | None:
        """Millijoules of a batch."""

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the weights."""


@dataclass(frozen=True)
class CostAxis:
    """One of the costs.

    Attributes:
        name: What it is called in a list.
        title: With where it comes from and the unit of `of`.
        less: Where less of it lies.
        of: The cost of a plan as it is drawn, None if it is not known.
        text: The cost in words.
    """

    name: str
    title: str
    less: str
    of: Callable[[Costed], float | None]
    text: Callable[[float], str]


def cost_axes(report: Report) -> tuple[CostAxis, ...]:
    """The costs that every plan of the report has, what the search minimised first."""
    found = [axis for axis in _known(report) if all(axis.of(step) is not None for step in report.search.path)]
    return tuple(sorted(found, key=lambda axis: axis.name != report.search.objective))


def _known(report: Report) -> Iterator[CostAxis]:
    source = report.latency_ms.source
    yield CostAxis(
        "latency", f"{source} latency, ms", "faster", lambda plan: plan.latency_ms,
        lambda ms: f"{source} {wording.latency_text(ms)}",
    )  # fmt: skip
    if report.energy_mj is not None:
        yield CostAxis(
            "energy", "modelled energy of a batch, mJ", "less", lambda plan: plan.energy_mj,
            lambda mj: f"modelled {wording.energy_text(mj)}",
        )  # fmt: skip
    yield CostAxis(
        "size", "weights, MB", "smaller", lambda plan: None if plan.size_bytes is None else plan.size_bytes / 1e6,
        lambda mb: wording.size_text(mb * 1e6, report.size_bytes.fp32),
    )  # fmt: skip
