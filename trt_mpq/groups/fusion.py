"""Which nodes join the anchor before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from trt_mpq.graph.operators import ACTIVATIONS
from trt_mpq.groups.activations import gated_activation
from trt_mpq.groups.anchors import Anchor
from trt_mpq.groups.shapes import is_constant, shape_of

_Use = tuple[ir.Node, int]


@dataclass
class Chain:
    """An anchor and the nodes fused behind it.

    Attributes:
        anchor: Where the chain starts.
        bias: The group's per-channel constant, from the anchor or from an Add behind it.
        followers: Fused nodes, in order.
        residual: The Add and which of its inputs is the skip connection, if there is one.
        output: What the last node writes.
    """

    anchor: Anchor
    bias: ir.Value | None
    followers: list[ir.Node]
    residual: _Use | None
    output: ir.Value

    def absorb(self, *nodes: ir.Node) -> None:
        """Append nodes; the last one writes the chain's output."""
        self.followers.extend(nodes)
        self.output = nodes[-1].outputs[0]


def fuse(anchors: Sequence[Anchor]) -> list[Chain]:
    """One chain per anchor, in the order given, which is network order."""
    taken = {anchor.node for anchor in anchors}
    chains = []
    for anchor in reversed(anchors):  # the later of two anchors may take a residual Add, so it chooses first
        chain = Chain(anchor, anchor.bias, [], None, anchor.output)
        _absorb_bias(chain)
        _absorb_residual(chain, taken)
        _absorb_activation(chain)
        taken.update(chain.followers)
        chains.append(chain)
    return chains[::-1]


def _uses(value: ir.Value) -> list[_Use]:
    """Reads of a tensor that nobody outside the graph reads."""
    return [] if value.is_graph_output() else [(use.node, use.idx) for use in value.uses()]


def _sole_add(value: ir.Value) -> tuple[ir.Node, int, ir.Value] | None:
    """The Add that is the only reader of `value`, the index of its other operand, and that operand."""
    uses = _uses(value)
    if len(uses) != 1 or uses[0][0].op_type != "Add":
        return None
    node, index = uses[0]
    other = node.inputs[1 - index]
    return None if other is None else (node, 1 - index, other)


def _absorb_bias(chain: Chain) -> None:
    found = _sole_add(chain.output)
    if found is None:
        return
    node, _, constant = found
    if is_constant(constant) and _per_channel(constant, chain.anchor):
        chain.absorb(node)
        chain.bias = chain.bias or constant


def _per_channel(constant: ir.Value, anchor: Anchor) -> bool:
    """Whether the constant broadcasts to one value per output channel and leaves the shape alone."""
    output = shape_of(anchor.output)
    aligned = (1,) * (len(output) - len(shape_of(constant))) + shape_of(constant)
    wanted = tuple(size if axis == anchor.channel_axis else 1 for axis, size in enumerate(output))
    return aligned == wanted


def _absorb_residual(chain: Chain, taken: set[ir.Node]) -> None:
    """Let a convolution take the residual Add behind it.

    A matrix product does not: TensorRT adds in the epilogue of an 8-bit convolution, but behind a product it fuses
    the Add with the normalization that follows it, in FP16. A quantizer on the skip connection would be a kernel of
    its own and round the residual stream for nothing (Model Optimizer quantizes it behind convolutions only too).
    """
    found = _sole_add(chain.output) if chain.anchor.kernel else None
    if found is None:
        return
    node, index, other = found
    if node in taken or is_constant(other) or shape_of(other) != shape_of(chain.output):
        return
    chain.absorb(node)
    chain.residual = (node, index)


def _absorb_activation(chain: Chain) -> None:
    uses = _uses(chain.output)
    if len(uses) == 1:
        node, index = uses[0]
        parameters = [value for value in node.inputs[1:] if value is not None]
        if node.op_type in ACTIVATIONS and index == 0 and all(is_constant(value) for value in parameters):
            chain.absorb(node)
    elif len(uses) > 1 and (nodes := gated_activation(chain.output)):
        chain.absorb(*nodes)
