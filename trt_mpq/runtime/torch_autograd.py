"""Second derivatives of a network's loss: ONNX graphs interpreted in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_mpq.errors import missing
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.torch_operators import OPERATORS, Call, Tensor, UnsupportedByTorch

if TYPE_CHECKING:
    import onnx_ir as ir

_OLDEST_OPSET = 13
"""Before it, Softmax flattened its input and axes were attributes."""


class TorchGraph:
    """A graph, or a part of it, as a differentiable torch function.

    Args:
        graph: An ONNX graph in the default domain, opset 13 or later.
        nodes: The part: some of its nodes, in order; None for all.
        outputs: Tensors to compute; None for the outputs of the graph.
        track_constants: Whether floating-point constants take part in autograd, so that every tensor computed from
            one can be differentiated in.

    Raises:
        MissingDependencyError: torch is not installed.
        UnsupportedByTorch: The graph has an operator without a torch formula.
    """

    def __init__(
        self,
        graph: ir.Model,
        nodes: Sequence[ir.Node] | None = None,
        outputs: Sequence[str] | None = None,
        *,
        track_constants: bool = False,
    ) -> None:
        self._torch = import_torch("gradients")
        self._nodes = tuple(graph.graph if nodes is None else nodes)
        _check_support(graph, self._nodes)
        own = [value.name or "" for value in graph.graph.outputs]
        self._outputs = tuple(own if outputs is None else outputs)
        touched = {*self._outputs, *(value.name for node in self._nodes for value in node.inputs if value is not None)}
        self._constants = {
            name: self._torch.tensor(np.array(value.const_value.numpy()))
            for name, value in graph.graph.initializers.items()
            if value.const_value is not None and name in touched
        }
        for constant in self._constants.values():
            constant.requires_grad_(track_constants and constant.is_floating_point())

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs from torch tensors, which may replace constants, recording what autograd needs."""
        tensors = {**self._constants, **feeds}
        for node in self._nodes:
            arguments = [None if value is None else tensors[str(value.name)] for value in node.inputs]
            names = [value.name for value in node.outputs if value.name]
            tensors.update(zip(names, self._compute(node, arguments, len(names)), strict=True))
        return {name: tensors[name] for name in self._outputs}

    def _compute(self, node: ir.Node, arguments: Sequence[Tensor | None], outputs: int) -> Sequence[Tensor]:
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        call = Call(self._torch, node.op_type, attributes, outputs)
        result = OPERATORS[node.op_type](call, *arguments)
        results = result if isinstance(result, tuple) else (result,)
        call.require(len(results) == outputs, f"{outputs} outputs")
        return results


class TorchLoss:
    """The summed loss of a batch as a function of some graph inputs, twice differentiable.

    Args:
        graph: The graph to run.
        loss: Name of a loss of `evaluate/losses.py`.
        output_axes: Output to its axis that counts rows, where that is not the first.

    Raises:
        MissingDependencyError: torch is not installed.
        UnsupportedByTorch: The graph or the loss has no torch formula.
    """

    def __init__(self, graph: ir.Model, loss: str, output_axes: Mapping[str, int] | None = None) -> None:
        self._axes = dict(output_axes or {})
        self._torch = import_torch("the autograd Hessian estimator")
        self._graph = TorchGraph(graph)
        if loss not in TORCH_LOSSES:
            raise UnsupportedByTorch(f"torch autograd has no formula for the loss {loss!r}")
        self._loss = TORCH_LOSSES[loss]

    def quadratic_forms(
        self, feeds: Arrays, labels: Array | None, samples: int, variables: Arrays, directions: Sequence[Arrays]
    ) -> list[dict[str, float]]:
        """Per direction v and variable i: ``v_i . H_ii v_i``, with H_ii the Hessian in variable i alone.

        Args:
            feeds: Values of the other graph inputs.
            labels: Integer labels ``[samples]`` or None.
            samples: How many rows of the outputs count, from the first on.
            variables: Graph inputs to differentiate in, by name.
            directions: Arrays of the shapes of `variables`.

        Returns:
            One mapping per direction, from variable name to the value for the loss summed over the
            batch. The reference of losses that need one is the network's own output.
        """
        leaves = {name: self._tensor(value).requires_grad_() for name, value in variables.items()}
        results = self._graph.run({name: self._tensor(value) for name, value in feeds.items()} | leaves)
        outputs = {name: value.movedim(self._axes.get(name, 0), 0)[:samples] for name, value in results.items()}
        targets = None if labels is None else self._tensor(labels.astype(np.int64))
        total = self._loss(self._torch, outputs, targets, _detached(outputs)).sum()
        gradients = self._torch.autograd.grad(total, tuple(leaves.values()), create_graph=True, materialize_grads=True)
        return [self._forms(leaves, gradients, direction) for direction in directions]

    def _forms(self, leaves: dict[str, Tensor], gradients: Sequence[Tensor], direction: Arrays) -> dict[str, float]:
        return {
            name: self._form(leaf, gradient, self._tensor(direction[name]))
            for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
        }

    def _form(self, leaf: Tensor, gradient: Tensor, vector: Tensor) -> float:
        slope = (gradient * vector).sum()
        (product,) = self._torch.autograd.grad(slope, leaf, retain_graph=True, materialize_grads=True)
        return float((product.double() * vector).sum())

    def _tensor(self, value: Array) -> Tensor:
        return self._torch.tensor(value)


_IGNORED = -100
"""Label of a position that does not count, as in `evaluate/losses.py`."""


def _cross_entropy(torch: Any, outputs: dict[str, Tensor], labels: Tensor, reference: dict[str, Tensor]) -> Tensor:
    if labels.shape == _first(outputs).shape:  # one-hot
        labels = labels.argmax(-1)
    losses = torch.nn.functional.cross_entropy(
        _first(outputs).movedim(-1, 1), labels, reduction="none", ignore_index=_IGNORED
    ).reshape(len(labels), -1)
    counted = (labels != _IGNORED).reshape(len(labels), -1).sum(1)
    return losses.sum(1) / counted.clamp(min=1)


def _kl(torch: Any, outputs: dict[str, Tensor], labels: Tensor, reference: dict[str, Tensor]) -> Tensor:
    ours, theirs = _first(outputs).log_softmax(-1), _first(reference).log_softmax(-1)
    return (theirs.exp() * (theirs - ours)).sum(-1).reshape(len(ours), -1).mean(1)


def _normalized_mean_square(
    torch: Any, outputs: dict[str, Tensor], labels: Tensor, reference: dict[str, Tensor]
) -> Tensor:
    errors = []
    for name, value in outputs.items():
        theirs = reference[name].flatten(1)
        power = (theirs * theirs).mean(1)
        error = ((value.flatten(1) - theirs) ** 2).mean(1)
        errors.append(error / torch.where(power > 0, power, 1.0))
    return torch.stack(errors).mean(0)


#: Torch twins of the losses of `evaluate/losses.py`: (torch, outputs, labels, reference) to losses ``[n]``.
TORCH_LOSSES: dict[str, Callable[[Any, dict[str, Tensor], Tensor, dict[str, Tensor]], Tensor]] = {
    "cross-entropy": _cross_entropy,
    "kl": _kl,
    "mse": _normalized_mean_square,
}


def _first(outputs: dict[str, Tensor]) -> Tensor:
    return next(iter(outputs.values()))


def _detached(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in outputs.items()}


def _check_support(graph: ir.Model, nodes: Iterable[ir.Node]) -> None:
    opset = graph.opset_imports.get("", 0)
    if opset < _OLDEST_OPSET:
        raise UnsupportedByTorch(f"torch autograd needs opset {_OLDEST_OPSET} or later, the graph has {opset}")
    for node in nodes:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise UnsupportedByTorch(f"torch autograd cannot run operator {node.op_type} (node {node.name!r})")


def import_torch(purpose: str, *, exporter: bool = False) -> Any:
    """The torch package, with its exporter if asked.

    Raises:
        MissingDependencyError: It is absent, or older than the exporter needs; `purpose` says what it was needed for.
    """
    try:
        import torch

        if exporter:
            import torch.export
            import torch.onnx
    except ImportError as error:
        raise missing("torch", purpose, "torch", upgrade=exporter) from error
    if exporter and not hasattr(torch.export.Dim, "DYNAMIC"):
        raise missing("torch 2.6 or later", purpose, "torch", upgrade=True)
    return torch
