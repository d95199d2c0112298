"""ONNX operators written with torch, so that torch can differentiate them twice.

What networks of convolutions, fully connected layers and transformers contain, no recurrent ones, with the semantics of
opset 13 and later (https://onnx.ai/onnx/operators/). Each function takes a `Call` and the node's inputs, None for an
omitted one. torch itself comes with the call, because this module must be importable without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import onnx_ir as ir

from trt_mpq.errors import RuntimeFailure

Tensor = Any
_Operator = Callable[..., Any]


class UnsupportedByTorch(RuntimeFailure):
    """A graph holds something that has no formula here; other runtimes may still run it."""


@dataclass(frozen=True)
class Call:
    """One node being computed.

    Attributes:
        torch: The torch module.
        op_type: ONNX operator.
        attributes: Attribute values by name.
        outputs: How many outputs the node has.
    """

    torch: Any
    op_type: str
    attributes: Mapping[str, Any]
    outputs: int

    @property
    def functional(self) -> Any:
        """torch.nn.functional."""
        return self.torch.nn.functional

    def get(self, name: str, default: Any = None) -> Any:
        """Value of an attribute."""
        return self.attributes.get(name, default)

    def require(self, condition: bool, what: str) -> None:
        """Refuse the node unless `condition` holds."""
        if not condition:
            raise UnsupportedByTorch(f"torch autograd cannot run {self.op_type} with {what}")


# Arithmetic


def _div(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else call.torch.div(a, b, rounding_mode="trunc")


def _clip(call: Call, x: Tensor, minimum: Tensor = None, maximum: Tensor = None) -> Tensor:
    # Numbers instead of tensors: torch's clamp by tensors propagates gradients to the bounds too.
    low, high = (None if bound is None else bound.item() for bound in (minimum, maximum))
    return x if low is None and high is None else x.clamp(low, high)


def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor = None) -> Tensor:
    left = a.T if call.get("transA", 0) else a
    right = b.T if call.get("transB", 0) else b
    product = call.get("alpha", 1.0) * (left @ right)
    return product if c is None else product + call.get("beta", 1.0) * c


# Convolution, pooling, normalization


def _conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor = None) -> Tensor:
    rank = x.dim() - 2
    strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
    padded = _pad_spatially(call, x, _window_pads(call, x, weight.shape[2:]), 0.0)
    convolve = getattr(call.functional, f"conv{rank}d")
    return convolve(padded, weight, bias, strides, 0, dilations, call.get("group", 1))


def _conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor = None) -> Tensor:
    call.require(call.get("auto_pad", "NOTSET") == "NOTSET", "auto_pad")
    call.require(call.get("output_shape") is None, "output_shape")
    rank = x.dim() - 2
    strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
    extra = call.get("output_padding", [0] * rank)
    transpose = getattr(call.functional, f"conv_transpose{rank}d")
    full = transpose(x, weight, None, strides, 0, 0, call.get("group", 1), dilations)
    # Output padding may reach past the full result, where nothing but the bias arrives.
    full = _pad_spatially(call, full, [0] * rank + list(extra), 0.0)
    if bias is not None:
        full = full + bias.reshape(-1, *[1] * rank)
    pads = call.get("pads", [0] * 2 * rank)
    inside = [slice(pads[i], full.shape[2 + i] - pads[rank + i]) for i in range(rank)]
    return full[(slice(None), slice(None), *inside)]


def _max_pool(call: Call, x: Tensor) -> Tensor:
    kernel = call.get("kernel_shape")
    padded = _pad_spatially(call, x, _window_pads(call, x, kernel), float("-inf"))
    pool = getattr(call.functional, f"max_pool{len(kernel)}d")
    strides, dilations = call.get("strides", [1] * len(kernel)), call.get("dilations", [1] * len(kernel))
    return pool(padded, kernel, strides, 0, dilations, bool(call.get("ceil_mode", 0)))


def _average_pool(call: Call, x: Tensor) -> Tensor:
    kernel = call.get("kernel_shape")
    call.require(not call.get("ceil_mode", 0), "ceil_mode")
    call.require(all(d == 1 for d in call.get("dilations", [1])), "dilations")
    pads = _window_pads(call, x, kernel)
    strides = call.get("strides", [1] * len(kernel))
    pool = getattr(call.functional, f"avg_pool{len(kernel)}d")
    means = pool(_pad_spatially(call, x, pads, 0.0), kernel, strides)
    if call.get("count_include_pad", 0) or not any(pads):
        return means
    inside = _pad_spatially(call, call.torch.ones_like(x[:1, :1]), pads, 0.0)
    return means / pool(inside, kernel, strides)


def _batch_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    factor = scale / (variance + call.get("epsilon", 1e-5)).sqrt()
    shape = (-1, *[1] * (x.dim() - 2))
    return x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)


def _layer_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor = None) -> Tensor:
    axes = tuple(range(call.get("axis", -1) % x.dim(), x.dim()))
    centred = x - x.mean(dim=axes, keepdim=True)
    variance = (centred * centred).mean(dim=axes, keepdim=True)
    scaled = centred / (variance + call.get("epsilon", 1e-5)).sqrt() * scale
    return scaled if bias is None else scaled + bias


def _instance_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return call.functional.instance_norm(x, weight=scale, bias=bias, eps=call.get("epsilon", 1e-5))


def _window_pads(call: Call, x: Tensor, kernel: Sequence[int]) -> list[int]:
    """Padding of a sliding window as ONNX lists it: all begins, then all ends."""
    rank = len(kernel)
    mode = call.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return list(call.get("pads", [0] * 2 * rank)) if mode == "NOTSET" else [0] * 2 * rank
    strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
    totals = [
        max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        for size, width, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    smaller, larger = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return smaller + larger if mode == "SAME_UPPER" else larger + smaller


def _pad_spatially(call: Call, x: Tensor, pads: Sequence[int], fill: float) -> Tensor:
    if not any(pads):
        return x
    rank = len(pads) // 2
    # torch lists the last axis first, begin and end side by side.
    order = [pads[i + side * rank] for i in reversed(range(rank)) for side in (0, 1)]
    return call.functional.pad(x, order, value=fill)


# Reductions


def _reduction(function: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> _Operator:
    def run(call: Call, x: Tensor, axes: Tensor = None) -> Tensor:
        chosen = call.get("axes") if axes is None else axes.tolist()
        if not chosen and call.get("noop_with_empty_axes", 0):
            return x
        return function(x, tuple(chosen or range(x.dim())), bool(call.get("keepdims", 1)))

    return run


# Shapes and data movement


def _cast(call: Call, x: Tensor) -> Tensor:
    return x.to(getattr(call.torch, ir.DataType(call.get("to")).numpy().name))


def _constant_of_shape(call: Call, shape: Tensor) -> Tensor:
    value = call.get("value")
    fill = call.torch.tensor(0.0) if value is None else call.torch.tensor(value.numpy().copy())
    return call.torch.zeros(shape.tolist(), dtype=fill.dtype) + fill


def _constant(call: Call) -> Tensor:
    (value,) = call.attributes.values()
    return call.torch.tensor(value.numpy().copy() if hasattr(value, "numpy") else value)


def _cumsum(call: Call, x: Tensor, axis: Tensor) -> Tensor:
    turned = x.flip(int(axis)) if call.get("reverse", 0) else x
    total = turned.cumsum(int(axis)) - (turned if call.get("exclusive", 0) else 0)
    return total.flip(int(axis)) if call.get("reverse", 0) else total


def _depth_to_space(call: Call, x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    size = call.get("blocksize")
    rest = channels // size**2
    if call.get("mode", "DCR") == "CRD":
        blocks = x.reshape(n, rest, size, size, height, width).permute(0, 1, 4, 2, 5, 3)
    else:
        blocks = x.reshape(n, size, size, rest, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, rest, height * size, width * size)


def _gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.dim()
    rows = x.index_select(axis, _from_start(call, indices, x.shape[axis]).reshape(-1))
    return rows.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.dim()
    return x.gather(axis, _from_start(call, indices, x.shape[axis]))


def _from_start(call: Call, indices: Tensor, size: int) -> Tensor:
    return call.torch.where(indices < 0, indices + size, indices)


def _gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    shared, depth = call.get("batch_dims", 0), indices.shape[-1]
    rows = x.reshape(-1, *x.shape[shared:])
    places = indices.reshape(len(rows), -1, depth)
    row = call.torch.arange(len(rows)).unsqueeze(-1).expand(places.shape[:2])
    return rows[(row, *places.unbind(-1))].reshape(*indices.shape[:-1], *x.shape[shared + depth :])


def _pad(call: Call, x: Tensor, pads: Tensor, fill: Tensor = None, axes: Tensor = None) -> Tensor:
    call.require(call.get("mode", "constant") == "constant", f"mode {call.get('mode')!r}")
    amounts = pads.tolist()
    chosen = range(x.dim()) if axes is None else [axis % x.dim() for axis in axes.tolist()]
    every = [0] * 2 * x.dim()
    for i, axis in enumerate(chosen):
        every[axis], every[axis + x.dim()] = amounts[i], amounts[i + len(chosen)]
    return _pad_spatially(call, x, every, 0.0 if fill is None else fill.item())


def _range(call: Call, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return call.torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _resize(call: Call, x: Tensor, roi: Tensor = None, scales: Tensor = None, sizes: Tensor = None) -> Tensor:
    """Of the spatial axes, where torch has what ONNX asks for."""
    call.require(call.get("axes") is None and not call.get("antialias", 0), "axes or antialias")
    call.require(call.get("keep_aspect_ratio_policy", "stretch") == "stretch", "a policy for the aspect ratio")
    given = sizes is not None and sizes.numel() > 0
    wanted = sizes.tolist() if given else [size * scale for size, scale in zip(x.shape, scales.tolist(), strict=True)]
    whole = [int(size) for size in wanted]
    call.require(wanted == whole and whole[:2] == list(x.shape[:2]), "sizes that are not whole, or other channels")
    mode, where = call.get("mode", "nearest"), call.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        doubled = all(size in (old, 2 * old) for size, old in zip(whole, x.shape, strict=True))
        floored = where == "asymmetric" and call.get("nearest_mode") == "floor"
        call.require(doubled or floored, "nearest values but of doubled sizes or rounded down")
        return call.functional.interpolate(x, whole[2:], mode="nearest")
    corners = where == "align_corners"
    call.require(mode == "linear" and (corners or where in {"half_pixel", "pytorch_half_pixel"}), f"{mode}, {where}")
    linear = ("linear", "bilinear", "trilinear")[x.dim() - 3]
    return call.functional.interpolate(x, whole[2:], mode=linear, align_corners=corners)


def _reshape(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    sizes = shape.tolist()
    if not call.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _slice(call: Call, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor = None, steps: Tensor = None) -> Tensor:
    chosen = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    for axis, start, end, step in zip(chosen, starts.tolist(), ends.tolist(), strides, strict=True):
        places = list(range(*slice(start, end, step).indices(x.shape[axis])))
        x = x.index_select(axis, call.torch.tensor(places, dtype=call.torch.int64))
    return x


def _split(call: Call, x: Tensor, sizes: Tensor = None) -> Sequence[Tensor]:
    axis = call.get("axis", 0)
    if sizes is not None:
        return tuple(x.split(sizes.tolist(), dim=axis))
    return tuple(x.split(-(-x.shape[axis] // call.outputs), dim=axis))


def _trilu(call: Call, x: Tensor, k: Tensor = None) -> Tensor:
    diagonal = 0 if k is None else int(k)
    return x.triu(diagonal) if call.get("upper", 1) else x.tril(diagonal)


def _unsqueeze(call: Call, x: Tensor, axes: Tensor) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


OPERATORS: dict[str, _Operator] = {
    "Abs": lambda call, x: x.abs(),
    "Add": lambda call, a, b: a + b,
    "And": lambda call, a, b: a & b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Ceil": lambda call, x: x.ceil(),
    "Clip": _clip,
    "Concat": lambda call, *parts: call.torch.cat(parts, dim=call.get("axis")),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Cos": lambda call, x: x.cos(),
    "CumSum": _cumsum,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Dropout": lambda call, x, *_: x,
    "Einsum": lambda call, *parts: call.torch.einsum(call.get("equation"), *parts),
    "Elu": lambda call, x: call.functional.elu(x, call.get("alpha", 1.0)),
    "Equal": lambda call, a, b: a == b,
    "Erf": lambda call, x: x.erf(),
    "Exp": lambda call, x: x.exp(),
    "Expand": lambda call, x, shape: x.expand(call.torch.broadcast_shapes(x.shape, shape.tolist())),
    "Flatten": lambda call, x: x.reshape(x.shape[: call.get("axis", 1)].numel(), -1),
    "Floor": lambda call, x: x.floor(),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gelu": lambda call, x: call.functional.gelu(x, approximate=call.get("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda call, x: x.mean(dim=tuple(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda call, x: x.amax(dim=tuple(range(2, x.dim())), keepdim=True),
    "Greater": lambda call, a, b: a > b,
    "GreaterOrEqual": lambda call, a, b: a >= b,
    "HardSigmoid": lambda call, x: (call.get("alpha", 0.2) * x + call.get("beta", 0.5)).clamp(0.0, 1.0),
    "HardSwish": lambda call, x: x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
    "Identity": lambda call, x: x,
    "InstanceNormalization": _instance_normalization,
    "IsNaN": lambda call, x: x.isnan(),
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda call, x: call.functional.leaky_relu(x, call.get("alpha", 0.01)),
    "Less": lambda call, a, b: a < b,
    "LessOrEqual": lambda call, a, b: a <= b,
    "Log": lambda call, x: x.log(),
    "LogSoftmax": lambda call, x: x.log_softmax(call.get("axis", -1)),
    "MatMul": lambda call, a, b: a @ b,
    "Max": lambda call, *values: reduce(call.torch.maximum, values),
    "MaxPool": _max_pool,
    "Min": lambda call, *values: reduce(call.torch.minimum, values),
    "Mish": lambda call, x: call.functional.mish(x),
    "Mod": lambda call, a, b: a.fmod(b) if call.get("fmod", 0) else a.remainder(b),
    "Mul": lambda call, a, b: a * b,
    "Neg": lambda call, x: -x,
    "Not": lambda call, x: x.logical_not(),
    "Or": lambda call, a, b: a | b,
    "PRelu": lambda call, x, slope: call.torch.where(x < 0, slope * x, x),
    "Pad": _pad,
    "Pow": lambda call, x, exponent: x**exponent,
    "Range": _range,
    "Reciprocal": lambda call, x: x.reciprocal(),
    "ReduceL2": _reduction(lambda x, axes, keep: (x * x).sum(dim=axes, keepdim=keep).sqrt()),
    "ReduceMax": _reduction(lambda x, axes, keep: x.amax(dim=axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda x, axes, keep: x.mean(dim=axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda x, axes, keep: x.amin(dim=axes, keepdim=keep)),
    "ReduceSum": _reduction(lambda x, axes, keep: x.sum(dim=axes, keepdim=keep)),
    "ReduceSumSquare": _reduction(lambda x, axes, keep: (x * x).sum(dim=axes, keepdim=keep)),
    "Relu": lambda call, x: x.relu(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Selu": lambda call, x: call.functional.selu(x),
    "Shape": lambda call, x: call.torch.tensor(x.shape[call.get("start", 0) : call.get("end")]),
    "Sigmoid": lambda call, x: x.sigmoid(),
    "Sign": lambda call, x: x.sign(),
    "Sin": lambda call, x: x.sin(),
    "Slice": _slice,
    "Softmax": lambda call, x: x.softmax(call.get("axis", -1)),
    "Softplus": lambda call, x: call.functional.softplus(x),
    "Split": _split,
    "Sqrt": lambda call, x: x.sqrt(),
    "Squeeze": lambda call, x, axes=None: x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist())),
    "Sub": lambda call, a, b: a - b,
    "Tanh": lambda call, x: x.tanh(),
    "Tile": lambda call, x, repeats: x.repeat(repeats.tolist()),
    "Transpose": lambda call, x: x.permute(*call.get("perm", range(x.dim() - 1, -1, -1))),
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
    "Where": lambda call, condition, a, b: call.torch.where(condition, a, b),
}
"""ONNX operator to its formula."""
