"""Patch embeddings: convolutions that read every value once, because their stride is their kernel."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import onnx_ir as ir


def patch_grids(graph: ir.Graph) -> Mapping[str, tuple[int, ...]]:
    """Name of every patch embedding to how many patches lie along each axis.

    Left out is what the declared shapes do not tell for every sample, and what leaves a rest of its input unread.
    """
    return {str(node.name): grid for node in graph if node.op_type == "Conv" and (grid := _grid(node))}


def _grid(conv: ir.Node) -> tuple[int, ...]:
    """How many patches lie along each axis; empty for other convolutions, those of single values too."""
    data, weight = conv.inputs[:2]
    if data is None or data.shape is None or weight is None or weight.const_value is None:
        return ()
    sizes = [size for size in data.shape[2:] if isinstance(size, int)]
    kernel = list(weight.const_value.shape.numpy()[2:])
    given = conv.attributes
    alone = given.get_int("group", 1) == 1 and not any(given.get_ints("pads", ()))
    close = set(given.get_ints("dilations", ())) <= {1} and list(given.get_ints("strides", ())) == kernel
    whole = len(sizes) == len(kernel) and not any(size % step for size, step in zip(sizes, kernel, strict=False))
    if not (alone and close and whole and prod(kernel) > 1):
        return ()
    return tuple(size // step for size, step in zip(sizes, kernel, strict=True))
