"""Tensors that share a scale, because an operator between them only moves values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tie:
    """The tensors on all sides of an operator that moves values: they have one scale.

    Attributes:
        node: The operator.
        tensors: What it reads and writes, in that order.
        operands: Those of a Concat, which may have scales of their own: they are requantized for it then.
        apart: The operands that do have one.
    """

    node: str
    tensors: tuple[str, ...]
    operands: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def tied(self) -> tuple[str, ...]:
        """The tensors that share the scale of the result."""
        return tuple(tensor for tensor in self.tensors if tensor not in self.apart)


def tied_sets(ties: Iterable[Tie]) -> tuple[tuple[str, ...], ...]:
    """Sets of tensors that `ties` give one scale, those of a single tensor included, in the order of the ties."""
    leaders: dict[str, str] = {}
    for tie in ties:
        for name in tie.tied:
            leaders[_leader(leaders, name)] = _leader(leaders, tie.tied[0])
        for name in tie.apart:
            _leader(leaders, name)
    sets: dict[str, list[str]] = {}
    for name in leaders:
        sets.setdefault(_leader(leaders, name), []).append(name)
    return tuple(map(tuple, sets.values()))


def _leader(leaders: dict[str, str], name: str) -> str:
    """The representative of a set (union-find with path halving)."""
    leaders.setdefault(name, name)
    while leaders[name] != name:
        leaders[name] = leaders[leaders[name]]
        name = leaders[name]
    return name
