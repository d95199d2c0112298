"""Constant weights of matrix products, and the second moments of what each is multiplied with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.dataset import Samples
from trt_mpq.dataset.chunks import chunks_by_length
from trt_mpq.emit import Network, RefinedWeights
from trt_mpq.errors import CalibrationError
from trt_mpq.graph.edit import constant_array
from trt_mpq.graph.operators import PRODUCTS
from trt_mpq.numerics import FloatArray, QuantizedWeight
from trt_mpq.runtime.base import Array, Runtime, with_outputs
from trt_mpq.types import LayerGroup, Precision, Progress, Weight

_T = TypeVar("_T")
_KEPT_ELEMENTS = 64 << 20
"""Numbers that are kept of one pass over the data, as float32: 256 MiB."""

Operand = tuple[str, int]
"""What a weight is multiplied with: the tensor, and its axis that is summed over, counted from the end."""

Moments = Mapping[Operand, FloatArray]
"""The mean of x x^T over the vectors x that are summed over, float32 [K, K]."""


@dataclass(frozen=True)
class Product:
    """A matrix product with a weight of its own.

    Attributes:
        weight: The weight.
        operand: What it is multiplied with.
    """

    weight: Weight
    operand: Operand

    @property
    def summed(self) -> int:
        """Elements that are summed over (K)."""
        return self.weight.shape[1 - self._channels]

    def rows(self, content: FloatArray) -> FloatArray:
        """What lies like the weight, as [channels, K]; and back, for both are the same exchange of axes or none."""
        return content if self._channels == 0 else content.T

    @property
    def _channels(self) -> int:
        assert self.weight.axis is not None
        return self.weight.axis


def products_in(network: Network, precision: Precision) -> tuple[Product, ...]:
    """The products that may run in `precision`, in network order; a weight that several operators read is none's."""
    nodes = {str(node.name): node for node in network.graph.graph}
    readers = Counter(weight.name for group in network.grouping.groups for weight in group.weights)
    return tuple(
        Product(weight, (_data_of(group, weight), _summed_axis(nodes[weight.node], weight)))
        for group in network.grouping.groups
        if group.allows(precision)
        for weight in group.weights
        if nodes[weight.node].op_type in PRODUCTS and readers[weight.name] == 1 and len(weight.shape) == 2
        if weight.axis is not None
    )


def moments_in_parts(
    network: Network, products: tuple[Product, ...], samples: Samples, runtime: Runtime, batch: int
) -> Iterator[tuple[tuple[Product, ...], Moments]]:
    """Some of the `products` at a time with the moments of what they read in FP32, so that memory is bounded.

    Raises:
        CalibrationError: A tensor that a product reads is NaN or infinite.
    """
    for part in in_parts(products, _elements):
        yield part, _moments(network, part, samples, runtime, batch)


def in_parts(items: Iterable[_T], elements: Callable[[Sequence[_T]], int]) -> Iterator[tuple[_T, ...]]:
    """The items in order, so many at a time that what is kept of them while the data is run stays bounded.

    `elements` counts the numbers that are kept of some of them.
    """
    part: list[_T] = []
    for item in items:
        if part and elements([*part, item]) > _KEPT_ELEMENTS:
            yield tuple(part)
            part = []
        part.append(item)
    if part:
        yield tuple(part)


def vectors_in_data(
    graph: ir.Model, sizes: Mapping[Operand, int], samples: Samples, runtime: Runtime, batch: int
) -> Iterator[tuple[int, Mapping[Operand, Array]]]:
    """What tensors are in FP32, portion by portion, the same vectors in the same order whatever the batch is.

    Args:
        graph: Prepared FP32 graph.
        sizes: Tensor, an input perhaps, and which of its axes vectors lie along, to the size of that.
        samples: The data.
        runtime: Where the graph runs.
        batch: Samples per run, at most.

    Returns:
        How many samples are done, and every tensor as vectors [n, size].
    """
    fed = {value.name for value in graph.graph.inputs}
    computed = list(dict.fromkeys(name for name, _ in sizes if name not in fed))
    session = runtime.load(with_outputs(graph, computed)) if computed else None
    for chunk in chunks_by_length(samples, batch):
        found = {**chunk.feeds, **(session.run(chunk.feeds) if session else {})}
        cut = {(name, axis): np.moveaxis(chunk.cut(found[name]), axis, -1) for name, axis in sizes}
        yield chunk.end, {operand: value.reshape(-1, sizes[operand]) for operand, value in cut.items()}


def require_finite(tensor: str, observed: NDArray[np.floating[Any]]) -> None:
    """Raise CalibrationError if what was `observed` of a tensor is NaN or infinite."""
    if not np.isfinite(observed).all():
        raise CalibrationError(f"tensor {tensor} is NaN or infinite for some calibration data: check the data")


def quantized_products(
    network: Network,
    precision: Precision,
    samples: Samples,
    runtime: Runtime,
    batch: int,
    progress: Progress,
    quantized: Callable[[Product, FloatArray, FloatArray], QuantizedWeight],
) -> RefinedWeights:
    """The weights of all products that may run in `precision`, each as `quantized` makes it.

    That is given the product, its weight as it lies in the graph, and the moments of what it is multiplied with; of
    `progress` it is told how many weights are done.

    Raises:
        CalibrationError: A tensor that a product reads is NaN or infinite.
    """
    products = products_in(network, precision)
    found: dict[tuple[str, Precision], QuantizedWeight] = {}
    for part, moments in moments_in_parts(network, products, samples, runtime, batch):
        for product in part:
            content = constant_array(network.graph.graph.initializers[product.weight.name])
            found[product.weight.name, precision] = quantized(product, content, moments[product.operand])
            progress(len(found), len(products))
    return found


def _elements(products: Sequence[Product]) -> int:
    sizes = {product.operand: product.summed for product in products}
    return sum(size * size for size in sizes.values())


def _moments(network: Network, products: Sequence[Product], samples: Samples, runtime: Runtime, batch: int) -> Moments:
    sizes = {product.operand: product.summed for product in products}
    sums = {operand: np.zeros((size, size), np.float32) for operand, size in sizes.items()}
    counts = dict.fromkeys(sums, 0)
    for _, found in vectors_in_data(network.graph, sizes, samples, runtime, batch):
        for operand, vectors in found.items():
            sums[operand] += vectors.T @ vectors
            counts[operand] += len(vectors)
    for operand, total in sums.items():
        require_finite(operand[0], total)
        total /= max(1, counts[operand])
    return sums


def _summed_axis(node: ir.Node, weight: Weight) -> int:
    """Which axis of the other operand is summed over: of a left one the last, of a right one that before."""
    if weight.index:
        return -2 if node.attributes.get_int("transA", 0) else -1
    return -1 if node.attributes.get_int("transB", 0) or weight.rank == 1 else -2


def _data_of(group: LayerGroup, weight: Weight) -> str:
    return next(site.tensor for site in group.inputs if site.node == weight.node and site.role == "input")
