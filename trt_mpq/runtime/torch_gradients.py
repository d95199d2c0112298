"""First derivatives of a network's log-likelihood in its inner tensors: ONNX graphs interpreted in torch.

The square of such a derivative is, on average, the diagonal of the Fisher information if the target is drawn from
what the network predicts. Where a loss compares with labels, the data's own labels stand for draws (the empirical
Fisher information). Where it compares with the FP32 network's outputs it has its minimum there and no slope, so the
target is really drawn: a class from softmax (kl), the output plus Gaussian noise (mse).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_mpq.runtime.base import Array, Arrays, with_outputs
from trt_mpq.runtime.torch_autograd import TORCH_LOSSES, TorchGraph, import_torch
from trt_mpq.runtime.torch_operators import Tensor, UnsupportedByTorch

if TYPE_CHECKING:
    import onnx_ir as ir

_Generators = Sequence[np.random.Generator]
"""One per sample, so that what a sample draws does not depend on the batch it is in."""


class TorchGradients:
    """Values of tensors inside a network, and derivatives of its log-likelihood in them.

    Args:
        graph: The network.
        tensors: What to look at, any tensors of `graph`.
        loss: Name of the loss of `evaluate/losses.py` whose likelihood it is.
        output_axes: Output to its axis that counts rows, where that is not the first.

    Raises:
        MissingDependencyError: torch is not installed.
        UnsupportedByTorch: The graph or the loss has no torch formula.
    """

    def __init__(
        self, graph: ir.Model, tensors: Sequence[str], loss: str, output_axes: Mapping[str, int] | None = None
    ) -> None:
        self._torch = import_torch("fisher sensitivity")
        self._outputs = tuple(str(value.name) for value in graph.graph.outputs)
        self._tensors, self._axes = tuple(tensors), dict(output_axes or {})
        everything = with_outputs(graph, tuple(dict.fromkeys((*self._outputs, *tensors))))
        self._graph = TorchGraph(everything, track_constants=True)
        if loss not in _LIKELIHOODS:
            raise UnsupportedByTorch(f"torch autograd has no likelihood for the loss {loss!r}")
        self._likelihood = _LIKELIHOODS[loss]

    def run(
        self, feeds: Arrays, labels: Array | None, generators: _Generators, wanted: Sequence[str]
    ) -> tuple[Arrays, Arrays]:
        """Values of all tensors, and the derivatives in those `wanted`.

        Args:
            feeds: The graph inputs ``[rows, ...]``.
            labels: Labels ``[samples, ...]``, or None.
            generators: One per sample, in order; rows beyond them have no part in the likelihood.
            wanted: Floating-point tensors to differentiate in.
        """
        results = self._graph.run({name: self._leaf(value) for name, value in feeds.items()})
        rows_first = {name: results[name].movedim(self._axes.get(name, 0), 0) for name in self._outputs}
        outputs = {name: value[: len(generators)] for name, value in rows_first.items()}
        targets = None if labels is None else self._torch.tensor(labels.astype(np.int64))
        total = self._likelihood(self._torch, outputs, targets, generators)
        slopes = self._torch.autograd.grad(total, [results[name] for name in wanted], materialize_grads=True)
        values = {name: results[name].detach().numpy() for name in self._tensors}
        return values, {name: slope.numpy() for name, slope in zip(wanted, slopes, strict=True)}

    def _leaf(self, value: Array) -> Tensor:
        tensor = self._torch.tensor(value)
        return tensor.requires_grad_() if tensor.is_floating_point() else tensor


_Likelihood = Callable[[Any, Mapping[str, Tensor], "Tensor | None", _Generators], Tensor]
"""(torch, outputs, labels, generators) to the negative log-likelihood, up to a constant, summed over samples."""


def _of_labels(torch: Any, outputs: Mapping[str, Tensor], labels: Tensor | None, generators: _Generators) -> Tensor:
    return TORCH_LOSSES["cross-entropy"](torch, dict(outputs), labels, {}).sum()


def _of_drawn_classes(
    torch: Any, outputs: Mapping[str, Tensor], labels: Tensor | None, generators: _Generators
) -> Tensor:
    """With positions, their sum over the root of their number: then the squared slope is that of the mean KL."""
    scores = next(iter(outputs.values()))
    drawn = torch.stack([_draw_class(torch, own, generator) for own, generator in zip(scores, generators, strict=True)])
    chosen = scores.log_softmax(-1).gather(-1, drawn[..., None])
    return -chosen.sum() / np.sqrt(max(1, drawn[0].numel()))


def _draw_class(torch: Any, scores: Tensor, generator: np.random.Generator) -> Tensor:
    """A class per position from softmax (the Gumbel-max trick: Gumbel 1954)."""
    noise = generator.gumbel(size=tuple(scores.shape))
    return (scores.detach() + torch.tensor(noise)).argmax(-1)


def _of_drawn_outputs(
    torch: Any, outputs: Mapping[str, Tensor], labels: Tensor | None, generators: _Generators
) -> Tensor:
    """Signs in place of Gaussian noise, which have the same covariance and less variance in the square."""
    total = torch.zeros(())
    for value in outputs.values():
        rows = value.flatten(1)
        signs = np.stack([2.0 * g.integers(0, 2, rows.shape[1]) - 1.0 for g in generators]).astype(np.float32)
        power = (rows.detach() ** 2).mean(1, keepdim=True)
        curvature = 2.0 / (len(outputs) * rows.shape[1] * torch.where(power > 0, power, 1.0))
        total = total + (curvature.sqrt() * torch.tensor(signs) * rows).sum()
    return total


#: By the name of a loss of `evaluate/losses.py`.
_LIKELIHOODS: dict[str, _Likelihood] = {
    "cross-entropy": _of_labels,
    "kl": _of_drawn_classes,
    "mse": _of_drawn_outputs,
}
