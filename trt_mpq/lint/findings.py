"""What a rule finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from trt_mpq.lint.graph import QdqGraph, Step, name_of


class Severity(str, Enum):
    """What TensorRT makes of a breach, worst first; the first two are errors, the last is no warning."""

    REFUSED = "refused"
    """Its parser or its compiler refuses the file."""
    WRONG_NUMBERS = "wrong numbers"
    """It compiles and computes something else than the file says, or nothing but NaN."""
    HIGH_PRECISION = "high precision"
    """It compiles, and layers that the file quantizes run in 16 or 32 bit."""
    EXTRA_KERNEL = "extra kernel"
    """It compiles, with quantizers that are kernels of their own or keep others from fusing."""
    NOTE = "note"
    """It fuses and computes what the file says; worth a look when accuracy or speed disappoint."""

    def __str__(self) -> str:
        return self.value

    @property
    def level(self) -> str:
        """One of "error", "warning" and "note"."""
        if self in (Severity.REFUSED, Severity.WRONG_NUMBERS):
            return "error"
        return "note" if self is Severity.NOTE else "warning"


@dataclass(frozen=True)
class Finding:
    """One place that breaks a rule.

    Attributes:
        rule: Id of the rule.
        severity: What TensorRT makes of it.
        nodes: Names of the nodes concerned, the one to change first.
        tensors: Names of the tensors concerned.
        message: One sentence: why, and what to do.
    """

    rule: str
    severity: Severity
    nodes: tuple[str, ...]
    tensors: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Hit:
    """A finding before its rule has put its name to it."""

    nodes: tuple[str, ...]
    tensors: tuple[str, ...]
    message: str

    @classmethod
    def on(cls, step: Step, message: str) -> Hit:
        """What is wrong with one Q or DQ."""
        return cls((name_of(step.node),), (str(step.source.name),), message)


Check = Callable[[QdqGraph], Iterator[Hit]]
"""Finds every breach of one rule in a graph, in network order."""
