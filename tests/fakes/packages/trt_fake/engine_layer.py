"""A layer of an engine, as the plan keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from trt_fake.onnx_graph import Shape


@dataclass(frozen=True)
class Border:
    """A tensor that a layer reads or writes."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Layer:
    """A layer of the engine. `precision` is what it computes in; `flops` and shapes hold at the optimum."""

    name: str
    kind: str
    op: str
    precision: str
    nodes: tuple[str, ...]
    inputs: tuple[Border, ...]
    outputs: tuple[Border, ...]
    flops: float
