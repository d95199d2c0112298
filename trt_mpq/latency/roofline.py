"""Modelled latency of plans: a roofline per kernel.

A group is one kernel; which operators outside groups are kernels of their own says `kernels.py`. The modelled time of
a kernel is what arithmetic and memory traffic take (Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009),
which overlap, though not wholly, and a fixed cost of being launched and of running dry again. Rates, caches and the
shares of them that kernels reach come from the `Target`, what kernels of all GPUs have in common from `Traits`.

- *Filling the GPU.* A product has at least one tile of its result per multiprocessor, be that there or not.
- *Caches.* Tensors that fit into the L2 cache are read from there by the next kernel, and weights by the next inference
  if all of the network's do. What all groups would store in a kernel's own format decides that for its weights, so that
  the time of a kernel depends on no other's format.
- *Narrow layers.* Tensors of convolutions are stored in vectors of channels, wider ones in 8 bit than in 16.
- *Products of one tensor*, as Q, K and V, are a kernel each, which reads the tensor, in formats and on GPUs where the
  compiler does not merge them (`Format.apart_from`, `bench/results/README.md`), and one kernel in others.
- *Attention* has one thread block per head, and its softmax is no faster in 8 bit than in 16.

Not modelled: kernels that do not exist for a shape, clocks that sink, and what `dataflow.py` does not count.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from math import ceil, inf

from trt_mpq.errors import SettingsError
from trt_mpq.latency.base import Latency
from trt_mpq.latency.dataflow import Formats
from trt_mpq.latency.kernels import Kernel, Reformat
from trt_mpq.types import Grouping, Precision, PrecisionPlan, Target


@dataclass(frozen=True)
class Traits:
    """What kernels have in common on every GPU, fitted to published latencies by `python -m bench.published.fit`.

    Attributes:
        cuda_share: Share of the CUDA cores' peak that FP32 products reach.
        depthwise_share: The same of products per channel, which no tensor core computes.
        attention_16, attention_8: Share of the tensor cores' peak that attention reaches in 16 and in 8 bit.
        narrow_share: Bandwidth that 8-bit products reach, of that which others do.
        padding: How much of a product with channels that are only there to fill vectors is computed.
        tile: Elements of a product's result that one multiprocessor computes at least.
        summed: Of the products that are summed up, how many one thread block takes; others do the rest.
        l2_bytes: What a multiprocessor gets from the L2 cache in one clock.
        overlap: Exponent with which arithmetic and traffic are added: 1 one after the other, infinity at once.
    """

    cuda_share: float = 0.67
    depthwise_share: float = 0.3
    attention_16: float = 0.73
    attention_8: float = 0.25
    narrow_share: float = 0.68
    padding: float = 1.0
    tile: float = 9700.0
    summed: int = 512
    l2_bytes: float = 20.0
    overlap: float = 2.0


@dataclass(frozen=True)
class Work:
    """What a kernel does for a batch: operations, and bytes moved, of which so many come from or go to memory."""

    operations: float
    moved_bytes: float
    memory_bytes: float


TRAITS = Traits()
_HEAD = 64
"""Size of an attention head, which groups do not tell: that of BERT, GPT-2, ViT and most others."""
_VECTOR_BYTES = 16
_TURING, _TURING_8_BIT = 75, 32
"""Channels of a convolution's tensors are stored in vectors of 16 bytes; in 8 bit on Turing, of 32."""


class LatencyModel(Latency):
    """Modelled time of one inference of a batch.

    Args:
        grouping: Groups and loose ops of the model.
        target: The GPU; a precision it has no arithmetic for cannot be asked about.
        batch: Samples per inference.
        tf32: Whether FP32 products round their operands to TF32, which GPUs have from Ampere on.
        traits: What all kernels have in common.

    Raises:
        SettingsError: `batch` is less than 1.
    """

    source = "modelled"
    identity = "modelled"

    def __init__(
        self, grouping: Grouping, target: Target, batch: int, *, tf32: bool = False, traits: Traits = TRAITS
    ) -> None:
        if batch < 1:
            raise SettingsError(f"the batch must hold at least 1 sample, got {batch}")
        super().__init__(grouping)
        self._batch, self._tf32 = batch, tf32
        self._weights = grouping.weight_elements
        self._set(target, traits)

    def on(self, target: Target, traits: Traits) -> LatencyModel:
        """The same network at the same batch on another GPU."""
        other = copy(self)
        other._set(target, traits)
        return other

    def _set(self, target: Target, traits: Traits) -> None:
        self.device, self.error, self._target, self._traits = target.name, target.error, target, traits

    def knows(self, plan: PrecisionPlan) -> bool:
        """Whether the GPU has arithmetic for every precision of `plan`."""
        return all(map(self._target.supports, plan.counts()))

    def require(self, plan: PrecisionPlan) -> None:
        """Refuse a plan with a precision that the GPU cannot compute in."""
        target = self._target
        if (precision := next((p for p in plan.counts() if not target.supports(p)), None)) is not None:
            raise SettingsError(
                f"{target.name} (SM {target.sm}) cannot compute in {precision}: "
                f"choose --precisions from {', '.join(p for p in Precision if target.supports(p))}, or another --device"
            )

    def kernel_ms(self, kernel: Kernel, formats: Formats) -> float:
        """The roofline of a group or loose op; nothing where the kernels beside it do its work."""
        if kernel.kind == "none":
            return 0.0
        precision = formats.computed[kernel.name]
        parts = _parts(kernel, precision, self._target.sm)
        moved = self._moved_s(self._bits(kernel, formats) / parts, precision, kernel.weights / parts)
        computed = self._computed_s(replace(kernel, flops=kernel.flops // parts), precision)
        return parts * (self._overlapping(computed, moved) + self._launch_s) * 1e3

    def conversion_ms(self, reformat: Reformat) -> float:
        """Reading, writing and launching; what is fused is written only."""
        moved = self._moved_s(reformat.moved_bits, reformat.wanted)
        return (moved + (0.0 if reformat.fused else self._launch_s)) * 1e3

    def kernel_work(self, kernel: Kernel, formats: Formats) -> Work:
        """What a kernel does; nothing where the kernels beside it do its work."""
        if kernel.kind == "none":
            return Work(0.0, 0.0, 0.0)
        precision = formats.computed[kernel.name]
        parts = _parts(kernel, precision, self._target.sm)
        moved, cached = self._moved(self._bits(kernel, formats) / parts, precision, kernel.weights / parts)
        return Work(kernel.flops * self._batch, parts * moved, parts * (moved - cached))

    def conversion_work(self, reformat: Reformat) -> Work:
        """What a conversion moves."""
        moved, cached = self._moved(reformat.moved_bits, reformat.wanted, 0)
        return Work(0.0, moved, moved - cached)

    def _bits(self, kernel: Kernel, formats: Formats) -> float:
        """Bits that a kernel reads, once for each of its parts, and writes for a sample, its weights left out."""
        precision, stored = formats.computed[kernel.name], formats.stored
        inputs, outputs = kernel.vectors(precision)
        read = kernel.input_elements * _parts(kernel, precision, self._target.sm)
        bits = read * precision.spec.width * self._padding(inputs, precision)
        for tensor, count in kernel.writes.items():
            bits += count * stored[tensor].spec.width * self._padding(outputs, stored[tensor])
        return bits

    def _computed_s(self, kernel: Kernel, precision: Precision) -> float:
        """Seconds of arithmetic."""
        if not kernel.flops:
            return 0.0
        flops, traits = kernel.flops * self._batch, self._traits
        if kernel.kind == "attention":
            return flops / (self._rate(precision, attention=True) * self._busy(kernel))
        rate = self._rate(precision)
        if kernel.kind == "depthwise":
            paired = 1 if precision is Precision.FP32 else 2
            return flops / min(rate, self._target.peak_tops[Precision.FP32] * 1e12 * paired * traits.depthwise_share)
        inputs, _ = kernel.vectors(precision)
        filled = 1 + traits.padding * (self._padding(inputs, precision) - 1)
        least = 2 * traits.tile * min(kernel.depth, traits.summed) * self._target.multiprocessors
        return (flops * filled + least) / rate

    def _rate(self, precision: Precision, *, attention: bool = False) -> float:
        """Operations per second that products reach."""
        target, traits, arithmetic = self._target, self._traits, precision.arithmetic(self.flow.top)
        peak = target.peak_tops[arithmetic] * 1e12
        if arithmetic is Precision.FP32:
            tensor_cores = target.tf32_tops * 1e12 * target.compute_efficiency if self._tf32 else 0.0
            return tensor_cores or peak * traits.cuda_share
        if attention:
            return peak * (traits.attention_8 if arithmetic.quantized else traits.attention_16)
        return peak * (target.eight_bit_efficiency if arithmetic.quantized else target.compute_efficiency)

    def _busy(self, attention: Kernel) -> float:
        """Share of the multiprocessors that have a head to work on."""
        outputs = sum(attention.writes.values())
        length = attention.flops / (4 * outputs)
        return min(1.0, max(1.0, outputs / (length * _HEAD)) * self._batch / self._target.multiprocessors)

    def _moved_s(self, bits: float, precision: Precision, weights: float = 0) -> float:
        """Seconds to move `bits` for every sample, and `weights` once: from the L2 cache what is there."""
        target, traits = self._target, self._traits
        moved, cached = self._moved(bits, precision, weights)
        narrow = traits.narrow_share if weights and self._in_8_bit(precision) else 1.0
        memory = target.bandwidth_gb_s * 1e9 * target.memory_efficiency * narrow
        l2 = max(memory, traits.l2_bytes * target.multiprocessors * target.clock_ghz * 1e9)
        return (moved - cached) / memory + cached / l2

    def _moved(self, bits: float, precision: Precision, weights: float) -> tuple[float, float]:
        """Bytes that are moved, and those of them that the L2 cache holds."""
        moved, once = bits * self._batch / 8, weights * precision.spec.weight_width / 8
        network = self._weights * precision.spec.weight_width / 8
        return moved + once, moved * self._resident(moved) + once * self._resident(network)

    def _resident(self, amount: float) -> float:
        """Share of so many bytes that the L2 cache still holds when they are read again: half a cache is safe."""
        return min(1.0, max(0.0, 2 - 2 * amount / (self._target.l2_mb * 2**20)))

    def _padding(self, channels: int | None, precision: Precision) -> float:
        """What vectors of channels take over the channels themselves."""
        if channels is None:
            return 1.0
        turing = self._in_8_bit(precision) and self._target.sm <= _TURING
        vector = (_TURING_8_BIT if turing else _VECTOR_BYTES) * 8 / precision.spec.width
        return ceil(channels / vector) * vector / channels

    def _overlapping(self, computed_s: float, moved_s: float) -> float:
        exponent = self._traits.overlap
        if exponent == inf or not computed_s or not moved_s:
            return max(computed_s, moved_s)
        return float((computed_s**exponent + moved_s**exponent) ** (1 / exponent))

    def _in_8_bit(self, precision: Precision) -> bool:
        """Whether products in `precision` are of 8 bit or less, as those of weights alone are not."""
        return precision.arithmetic(self.flow.top).quantized

    @property
    def _launch_s(self) -> float:
        return self._target.launch_us / 1e6


def _parts(kernel: Kernel, precision: Precision, sm: int) -> int:
    """How many kernels it is: products of one tensor are one each in some formats."""
    first = precision.spec.apart_from
    return kernel.parts if first is not None and sm >= first else 1
