"""What a rule finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from trt_mpq.lint.graph import QdqGraph, Step, name_of


class Severity(str, Enum):
    """How bad a finding is, worst first."""

    ERROR = "error"
    """TensorRT refuses the file, or computes something else than it says."""
    WARNING = "warning"
    """It builds, with Q/DQ that stay kernels of their own, layers without an 8-bit kernel, or an unknown outcome."""
    NOTE = "note"
    """It builds and fuses; worth a look when accuracy or speed disappoint."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One place that breaks a rule.

    Attributes:
        rule: Id of the rule.
        severity: How bad it is.
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
