"""What a numeric format is: its codes, how they are scaled, and who computes with it."""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp


@dataclass(frozen=True)
class Codes:
    """What an element is stored as.

    Attributes:
        dtype: Name of the type in ONNX (in lower case) and in numpy or ml_dtypes.
        bits: Width of one.
        smallest: Smallest number that a code stands for, in units of the scale.
        largest: Largest; a clipping magnitude (amax) is mapped onto it.
        mantissa: Explicit bits of the significand of a floating-point code; None for integers, whose steps are even.
        tiny: Smallest positive number that a code stands for.
    """

    dtype: str
    bits: int
    smallest: float
    largest: float
    mantissa: int | None = None
    tiny: float = 1.0

    @property
    def even(self) -> bool:
        """Whether neighbouring codes are equally far apart everywhere."""
        return self.mantissa is None

    @property
    def step(self) -> float:
        """Distance of neighbouring codes at the largest magnitude, relative to it."""
        return 1.0 / self.largest if self.mantissa is None else 2.0 ** -(self.mantissa + 1)

    @property
    def reach(self) -> float:
        """What lies between the largest number and this is rounded to it: three quarters of the way to the next tie."""
        assert self.mantissa is not None
        return self.largest + 0.375 * 2.0 ** (frexp(self.largest)[1] - 1 - self.mantissa)


@dataclass(frozen=True)
class Scales:
    """How codes are scaled.

    Attributes:
        blocks: Sizes of blocks along the axis that is summed over, each with a scale of its own: the first of which
            the axis is two or more is taken. Empty for one scale per output channel of a weight, and per tensor of
            activations. Scales of blocks of activations are computed anew for every input.
        coded: Whether scales of blocks are E4M3 codes, all with one FP32 scale per tensor; else they have the
            network's 16-bit type, or FP32.
    """

    blocks: tuple[int, ...] = ()
    coded: bool = False

    def block_of(self, size: int) -> int | None:
        """The size of blocks along an axis of `size` elements, at least two of them; None if there are none such.

        One block is one scale per channel, which NVIDIA's compiler dequantizes by a kernel of its own.
        """
        return next((block for block in self.blocks if size % block == 0 and size > block), None)

    @property
    def bits(self) -> float:
        """Bits of scales per element, at the smallest block; one scale per tensor or channel counts as nothing."""
        return (8 if self.coded else 16) / self.blocks[0] if self.blocks else 0.0


WHOLE = Scales()
"""One scale per tensor of activations, per output channel of weights."""

PRODUCTS = frozenset({"MatMul", "Gemm"})
"""Matrix products of a computed tensor and a constant weight."""


@dataclass(frozen=True)
class Format:
    """A numeric format that groups can run in.

    Attributes:
        name: Spelling on the command line.
        words: What it is, as a noun phrase for people.
        first_sm: Compute capability, times ten, from which on GPUs have it.
        tensorrt: First version of TensorRT that takes it in an ONNX file.
        opset: Lowest opset of the typed file that holds it.
        width: Bits of an element of a tensor that is no constant, scales included.
        codes: What elements are quantized to; None for plain floating point.
        weights: How constant weights are scaled; None where they are not quantized.
        activations: How what a group reads is scaled; None where it stays in high precision.
        operators: Groups that may run in it, by `LayerGroup.op_type`; None for all. A product of two computed tensors
            is none of them.
        deployable: Whether TensorRT has kernels for it.
        borrows: Name of the format whose rate a format without kernels is modelled at.
        apart_from: Compute capability, times ten, from which on products of one tensor (Q, K, V) are a kernel each;
            None where NVIDIA's compiler makes one of them.
        taps: Largest kernel volume of a convolution that there are kernels for; None for any.
        portable: Whether the typed file that holds it is plain ONNX, which ONNX Runtime runs too.
    """

    name: str
    words: str
    first_sm: int
    tensorrt: tuple[int, int]
    opset: int
    width: float
    codes: Codes | None = None
    weights: Scales | None = None
    activations: Scales | None = None
    operators: frozenset[str] | None = None
    deployable: bool = True
    borrows: str | None = None
    apart_from: int | None = None
    taps: int | None = None
    portable: bool = True

    @property
    def quantized(self) -> bool:
        """Whether values carry a scale instead of being plain floating point."""
        return self.codes is not None

    @property
    def weight_only(self) -> bool:
        """Whether weights are stored in it, and multiplied in the network's high precision."""
        return self.weights is not None and self.activations is None

    @property
    def between_kernels(self) -> bool:
        """Whether one kernel may hand a tensor in it to the next: its scale is known before the values are."""
        return self.activations is not None and not self.activations.blocks

    def convolves(self, taps: int) -> bool:
        """Whether there are kernels for convolutions in it with a kernel volume of `taps`."""
        return self.taps is None or taps <= self.taps

    def reads(self, role: str) -> bool:
        """Whether it quantizes what a group reads as `QuantizedInput.role`: of blocks, operands of products only."""
        return self.activations is not None and (not self.activations.blocks or role == "input")

    @property
    def weight_width(self) -> float:
        """Bits of an element of a weight, scales of blocks included."""
        return self.width if self.codes is None or self.weights is None else self.codes.bits + self.weights.bits

    def misfit(self, operator: str, summed: int, axes: int) -> str | None:
        """Why a group cannot run in it on any GPU; None if it can.

        Args:
            operator: Its `op_type`, or what it is instead of one of `operators`.
            summed: Elements that are summed over (K).
            axes: Of what it reads.
        """
        if self.operators is not None and operator not in self.operators:
            return f"{self.name} is for matrix products with a constant weight"
        if self.weights is not None and self.weights.blocks and not self.weights.block_of(summed):
            sizes = " or ".join(map(str, self.weights.blocks))
            return f"K = {summed} is not two or more blocks of {sizes}, which {self.name} has"
        if self.activations is not None and self.activations.blocks and axes not in (2, 3):
            return f"its input has {axes} axes, and TensorRT quantizes blocks of tensors with 2 or 3"
        return None
