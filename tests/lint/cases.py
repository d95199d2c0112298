"""Small graphs with Q/DQ, written as ONNX text: one per rule that breaks this rule and no other, and sound ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper, parser

CHANNELS = 32


def floats(*shape: int, value: float = 0.5, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.full(shape, value, dtype))


def integers(dtype: type, *shape: int, value: int = 0) -> onnx.TensorProto:
    return numpy_helper.from_array(np.full(shape, value, dtype))


def small(data_type: int, *shape: int) -> onnx.TensorProto:
    """Zeros of a type numpy does not have."""
    return helper.make_tensor("", data_type, shape, [0] * int(np.prod(shape)))


CONSTANTS = {
    # scales and zero points of activations
    "s": floats(), "s2": floats(value=0.25), "sh": floats(dtype=np.float16), "zero_scale": floats(value=0.0),
    "z": integers(np.int8), "z5": integers(np.int8, value=5), "zu": integers(np.uint8),
    "z8": small(TensorProto.FLOAT8E4M3FN), "z4": small(TensorProto.INT4),
    # a weight as codes and as floats, with one scale per channel
    "w": integers(np.int8, CHANNELS, CHANNELS, 3, 3, value=3), "wf": floats(CHANNELS, CHANNELS, 3, 3),
    "w8": small(TensorProto.FLOAT8E4M3FN, CHANNELS, CHANNELS, 3, 3),
    "w4": small(TensorProto.INT4, CHANNELS, CHANNELS, 3, 3),
    "ws": floats(CHANNELS), "wsh": floats(CHANNELS, dtype=np.float16),
    "tiny": floats(CHANNELS, value=1e-6, dtype=np.float16),
    "ws31": floats(31), "wz": integers(np.int8, CHANNELS), "wz31": integers(np.int8, 31),
    "wz8": small(TensorProto.FLOAT8E4M3FN, CHANNELS), "wz4": small(TensorProto.INT4, CHANNELS),
    # biases
    "b": floats(CHANNELS), "bh": floats(CHANNELS, dtype=np.float16), "b8": integers(np.int8, CHANNELS),
    "b32": integers(np.int32, CHANNELS), "zi": integers(np.int32),
    # matrices
    "m": integers(np.int8, CHANNELS, 10, value=2), "ms": floats(10), "mz": integers(np.int8, 10),
    "m4": small(TensorProto.INT4, CHANNELS, CHANNELS), "mt": integers(np.int8, 16, CHANNELS),
    "mts": floats(16), "mtz": integers(np.int8, 16),
}  # fmt: skip

IMAGE = f"float[N,{CHANNELS},8,8]"
HALF_IMAGE = f"float16[N,{CHANNELS},8,8]"


def qdq(name: str, tensor: str, scale: str = "s", zero: str = "z") -> str:
    """Nodes `<name>_q` and `<name>_dq`, which turn `tensor` into `<name>`."""
    return (
        f"[{name}_q] {name}_codes = QuantizeLinear({tensor}, {scale}, {zero}) "
        f"[{name}_dq] {name} = DequantizeLinear({name}_codes, {scale}, {zero}) "
    )


WEIGHT = "[w_dq] wd = DequantizeLinear<axis=0>(w, ws, wz) "
FLOAT_WEIGHT = "[w_q] wq = QuantizeLinear<axis=0>(wf, ws, wz) [w_dq] wd = DequantizeLinear<axis=0>(wq, ws, wz) "
HALF_WEIGHT = "[w_dq] wd = DequantizeLinear<axis=0>(w, wsh, wz) "
FP8_WEIGHT = "[w8_dq] wd8 = DequantizeLinear<axis=0>(w8, ws, wz8) "


def conv(name: str, data: str, weight: str = "wd", bias: str = "b") -> str:
    """Node `name`, which writes tensor `name`; the last of a graph is called `y`."""
    return f"[{name}] {name} = Conv<pads=[1,1,1,1]>({data}, {weight}, {bias}) "


@dataclass(frozen=True)
class Case:
    """A graph from `x` to `y` in ONNX text."""

    body: str
    inputs: str = f"{IMAGE} x"
    output: str = f"{IMAGE} y"
    opset: int = 19
    metadata: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, onnx.TensorProto] = field(default_factory=dict)

    def model(self) -> ir.Model:
        """The graph with the constants it mentions as initializers."""
        header = f'<ir_version: 10, opset_import: ["":{self.opset},"trt":1]>'
        text = f"{header} g ({self.inputs}) => ({self.output}) {{ {self.body} }}"
        proto = parser.parse_model(text)
        known = {**CONSTANTS, **self.constants}
        for name in sorted({name for node in proto.graph.node for name in node.input} & known.keys()):
            tensor = onnx.TensorProto()
            tensor.CopyFrom(known[name])
            tensor.name = name
            proto.graph.initializer.append(tensor)
        model = ir.from_proto(proto)
        model.metadata_props.update(self.metadata)
        return model


WEAK = {"trt_mpq.flavour": "weak"}
TWO_CONVS = WEIGHT + conv("one", "a") + conv("two", "d") + "[sum] y = Add(one, two)"
TRT_FP8 = "[a_q] q = trt.TRT_FP8QuantizeLinear(x, s) [a_dq] a = trt.TRT_FP8DequantizeLinear(q, s) "
BRANCH_AND_SKIP = WEIGHT + qdq("a", "x") + conv("one", "a")

BROKEN: dict[str, tuple[Case, ...]] = {
    "foreign-operator": (
        Case("[conv] y = ConvInteger(x, w)", "int8[N,32,8,8] x", "int32[N,32,6,6] y"),
        Case("[conv] y = QLinearConv(x, s, z, w, ws, wz, s, z)", "int8[N,32,8,8] x", "int8[N,32,6,6] y"),
    ),
    "code-type": (
        Case(qdq("a", "x", zero="zu") + WEIGHT + conv("y", "a")),
        Case("[a_q] q = QuantizeLinear(x, s) [a_dq] a = DequantizeLinear(q, s) " + WEIGHT + conv("y", "a")),
        Case(qdq("a", "x") + WEIGHT + "[b_dq] bd = DequantizeLinear(b32, s, zi) " + conv("y", "a", bias="bd")),
    ),
    "zero-point": (
        Case(qdq("a", "x", zero="z5") + WEIGHT + conv("y", "a")),
        Case(qdq("a", "x", zero="zp") + WEIGHT + conv("y", "a"), f"{IMAGE} x, int8 zp"),
    ),
    "scale-value": (
        *(
            Case(qdq("a", "x", scale="bad") + WEIGHT + conv("y", "a"), constants={"bad": floats(value=value)})
            for value in (0.0, -1.0, float("nan"), float("inf"))
        ),
        Case(qdq("a", "x", scale="sp") + WEIGHT + conv("y", "a"), f"{IMAGE} x, float sp"),
    ),
    "scale-shape": (
        Case(qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=0>(w, ws31, wz31) " + conv("y", "a")),
        Case(qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=0>(w, ws, z) " + conv("y", "a")),
        Case(
            qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=0>(w, square, wz) " + conv("y", "a"),
            constants={"square": floats(2, 16)},
        ),
    ),
    "scale-type": (
        Case(
            "[a_q] q = QuantizeLinear(x, s, z) [a_dq] a = DequantizeLinear(q, sh, z) "
            + HALF_WEIGHT
            + conv("y", "a", bias="bh"),
            f"{HALF_IMAGE} x",
            f"{HALF_IMAGE} y",
        ),
    ),
    "operand-types": (
        Case(qdq("a", "x") + HALF_WEIGHT + conv("y", "a")),
        Case(qdq("a", "x") + WEIGHT + conv("y", "a", bias="bh")),
    ),
    "pair-mismatch": (
        Case("[a_q] q = QuantizeLinear(x, s, z) [a_dq] a = DequantizeLinear(q, s2, z) " + WEIGHT + conv("y", "a")),
    ),
    "activation-per-channel": (Case(qdq("a", "x", "ws", "wz") + WEIGHT + conv("y", "a")),),
    "activation-int4": (
        Case(
            qdq("a", "x", zero="z4") + "[w_dq] wd = DequantizeLinear<axis=0>(w4, ws, wz4) " + conv("y", "a"), opset=21
        ),
    ),
    "opset": (
        Case(qdq("a", "x", zero="z8") + FP8_WEIGHT + conv("y", "a", "wd8"), opset=17),
        Case(qdq("a", "x") + WEIGHT + conv("y", "a"), opset=12),
        Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), opset=19, metadata=WEAK),
    ),
    "weak-type": (
        Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), f"{HALF_IMAGE} x", opset=17, metadata=WEAK),
        Case(
            TRT_FP8 + "[plugin] y = trt.Any(a)",
            opset=17,
            metadata=WEAK,
        ),
    ),
    "weight-axis": (
        Case(qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=1>(w, ws, wz) " + conv("y", "a")),
        Case(qdq("a", "x") + WEIGHT + "[y] y = ConvTranspose<pads=[1,1,1,1]>(a, wd, b)"),
        Case(
            qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=-1>(mt, ws, wz) [t] mtt = Transpose<perm=[1,0]>(md) "
            "[y] y = MatMul(a, mtt)",
            "float[N,32] x",
            "float[N,16] y",
        ),
    ),
    "unpaired-quantize": (Case("[a_q] q = QuantizeLinear(x, s, z) [relu] y = Relu(q)", output="int8[N,32,8,8] y"),),
    "unpaired-dequantize": (
        Case("[a_dq] a = DequantizeLinear(x, s, z) " + WEIGHT + conv("y", "a"), "int8[N,32,8,8] x"),
    ),
    "half-quantized": (
        Case(qdq("a", "x") + conv("y", "a", "wf")),
        Case(WEIGHT + conv("y", "x")),
        Case(qdq("a", "x") + FP8_WEIGHT + conv("y", "a", "wd8")),
        Case(qdq("a", "x") + "[y] y = MatMul(a, other)", f"{IMAGE} x, float[N,32,8,8] other"),
    ),
    "bias-quantized": (
        Case(qdq("a", "x") + WEIGHT + "[b_dq] bd = DequantizeLinear(b8, s, z) " + conv("y", "a", bias="bd")),
    ),
    "blocked-epilogue": (
        Case(BRANCH_AND_SKIP + qdq("c", "one") + "[relu] y = Relu(c)"),
        Case(BRANCH_AND_SKIP + qdq("c", "one") + "[add] y = Add(c, x)"),
        Case(
            qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=0>(mt, mts, mtz) [t] mtt = Transpose<perm=[1,0]>(md) "
            "[dot] p = MatMul(a, mtt) " + qdq("c", "p") + "[add] y = Add(c, mts)",
            "float[N,32] x",
            "float[N,16] y",
        ),
    ),
    "residual-high-precision": (
        Case(BRANCH_AND_SKIP + "[add] sum = Add(one, x) [relu] r = Relu(sum) " + qdq("c", "r") + conv("y", "c")),
        Case(BRANCH_AND_SKIP + conv("two", "a") + "[add] sum = Add(one, two) " + qdq("c", "sum") + conv("y", "c")),
    ),
    "dq-q-leftover": (Case(qdq("a", "x") + qdq("c", "a") + WEIGHT + conv("y", "c")),),
    "requantize": (
        Case(qdq("a", "x") + qdq("c", "a", scale="s2") + WEIGHT + conv("y", "c")),
        Case(
            qdq("a", "x")
            + "[pool] p = MaxPool<kernel_shape=[1,1]>(a) "
            + qdq("c", "p", scale="s2")
            + WEIGHT
            + conv("y", "c")
        ),
    ),
    "concat-scales": (
        Case(
            BRANCH_AND_SKIP
            + conv("two", "a")
            + qdq("c", "one")
            + qdq("d", "two", scale="s2")
            + "[join] j = Concat<axis=2>(c, d) "
            + conv("y", "j"),
            output="float[N,32,16,8] y",
        ),
        Case(
            BRANCH_AND_SKIP
            + conv("two", "a")
            + qdq("d", "two", scale="s2")
            + conv("three", "d")
            + "[join] j = Concat<axis=2>(one, two, three) "
            + qdq("e", "j")
            + conv("y", "e"),
            output="float[N,32,24,8] y",
        ),
    ),
    "tensor-two-scales": (Case(qdq("a", "x") + qdq("d", "x", scale="s2") + TWO_CONVS),),
    "standalone": (
        Case(qdq("a", "x") + "[soft] y = Softmax(a)"),
        Case(qdq("y", "x")),
        Case(qdq("a", "x") + "[turn] t = Transpose<perm=[0,1,3,2]>(a) [mean] y = ReduceMean<keepdims=1>(t)"),
    ),
    "pool-output": (Case(qdq("a", "x") + "[pool] y = GlobalAveragePool(a)", output="float[N,32,1,1] y"),),
    "cast": (
        Case(
            qdq("a", "x") + "[half] h = Cast<to=10>(a) " + HALF_WEIGHT + conv("y", "h", bias="bh"),
            output=f"{HALF_IMAGE} y",
        ),
        Case("[half] h = Cast<to=10>(x) [back] y = Cast<to=1>(h)"),
    ),
    "mixed-formats": (
        Case(
            qdq("a", "x")
            + qdq("d", "x", zero="z8")
            + WEIGHT
            + FP8_WEIGHT
            + conv("one", "a")
            + conv("two", "d", "wd8")
            + "[sum] y = Add(one, two)"
        ),
    ),
    "kernel-limit": (
        Case(
            qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=1>(m, ms, mz) [y] y = MatMul(a, md)",
            "float[N,32] x",
            "float[N,10] y",
        ),
        Case(
            qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=0>(mt, mts, mtz) [y] y = Gemm<transB=1>(a, md)",
            "float[1,32] x",
            "float[1,16] y",
        ),
        Case(
            qdq("a", "x", zero="z8") + "[w_dq] wd = DequantizeLinear<axis=0>(big, ws, wz8) [y] y = Conv(a, wd)",
            output="float[N,32,3,3] y",
            constants={"big": small(TensorProto.FLOAT8E4M3FN, CHANNELS, CHANNELS, 6, 6)},
        ),
    ),
    "weak-stored-weight": (Case(qdq("a", "x") + WEIGHT + conv("y", "a"), opset=17, metadata=WEAK),),
    "scale-subnormal": (
        Case(
            qdq("a", "x", scale="sh")
            + "[w_dq] wd = DequantizeLinear<axis=0>(w, tiny, wz) "
            + conv("y", "a", bias="bh"),
            f"{HALF_IMAGE} x",
            f"{HALF_IMAGE} y",
        ),
    ),
    "duplicate-quantizer": (Case(qdq("a", "x") + qdq("d", "x") + TWO_CONVS),),
    "movable": (Case("[pool] p = MaxPool<kernel_shape=[1,1]>(x) " + qdq("a", "x") + qdq("d", "p") + TWO_CONVS),),
}
"""Rule to graphs that break it and no other."""

SOUND: dict[str, Case] = {
    "plain": Case(qdq("a", "x") + WEIGHT + conv("c", "a") + "[relu] y = Relu(c)"),
    "float weights": Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), opset=13),
    "weak": Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), opset=17, metadata=WEAK),
    "half": Case(
        qdq("a", "x", scale="sh") + HALF_WEIGHT + conv("y", "a", bias="bh"), f"{HALF_IMAGE} x", f"{HALF_IMAGE} y"
    ),
    "fp8": Case(qdq("a", "x", zero="z8") + FP8_WEIGHT + conv("y", "a", "wd8")),
    "nothing quantized": Case("[relu] y = Relu(x)"),
    "chain": Case(qdq("a", "x") + WEIGHT + conv("c", "a") + qdq("d", "c") + conv("y", "d")),
    "residual": Case(
        BRANCH_AND_SKIP + "[add] sum = Add(one, a) [relu] r = Relu(sum) " + qdq("c", "r") + conv("y", "c")
    ),
    "projection": Case(
        BRANCH_AND_SKIP
        + conv("two", "a")
        + qdq("skip", "one")
        + "[add] sum = Add(skip, two) "
        + qdq("c", "sum")
        + conv("y", "c")
    ),
    "residual without a quantizer behind": Case(BRANCH_AND_SKIP + "[add] y = Add(one, x)"),
    "max pool between two pairs of one scale": Case(
        qdq("a", "x") + "[pool] p = MaxPool<kernel_shape=[1,1]>(a) " + qdq("c", "p") + WEIGHT + conv("y", "c")
    ),
    "average pool in 8 bit": Case(
        qdq("a", "x") + "[pool] p = AveragePool<kernel_shape=[1,1]>(a) " + qdq("c", "p") + WEIGHT + conv("y", "c")
    ),
    "codes moved about": Case(
        "[a_q] q = QuantizeLinear(x, s, z) [pool] p = MaxPool<kernel_shape=[1,1]>(q) "
        "[a_dq] a = DequantizeLinear(p, s, z) " + WEIGHT + conv("y", "a")
    ),
    "concat of one scale": Case(
        BRANCH_AND_SKIP
        + conv("two", "a")
        + qdq("c", "one")
        + qdq("d", "two")
        + "[join] j = Concat<axis=2>(c, d) "
        + conv("y", "j"),
        output="float[N,32,16,8] y",
    ),
    "a weight behind a Transpose": Case(
        qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=0>(mt, mts, mtz) [t] mtt = Transpose(md) "
        "[y] y = MatMul(a, mtt)",
        "float[N,32] x",
        "float[N,16] y",
    ),
    "weight-only INT4": Case(
        "[m_dq] md = DequantizeLinear<axis=1>(m4, ws, wz4) [y] y = MatMul(x, md)",
        "float[N,32] x",
        "float[N,32] y",
        opset=21,
    ),
    "weight-only INT4 in blocks": Case(
        "[m_dq] md = DequantizeLinear<axis=0, block_size=16>(m4, blocks, zeros) [y] y = MatMul(x, md)",
        "float[N,32] x",
        "float[N,32] y",
        opset=21,
        constants={"blocks": floats(2, CHANNELS), "zeros": small(TensorProto.INT4, 2, CHANNELS)},
    ),
    "Model Optimizer's FP8 operators": Case(TRT_FP8 + FP8_WEIGHT + conv("y", "a", "wd8")),
    "constants that are nodes": Case(
        "[sc] cs = Constant<value = float {0.5}>() [zc] cz = Constant<value = int8 {0}>() [same] ci = Identity(cs) "
        + qdq("a", "x", "ci", "cz")
        + WEIGHT
        + conv("y", "a")
    ),
    "a scale that follows from constants": Case(
        "[ratio] cs = Div(s, s2) " + qdq("a", "x", "cs") + WEIGHT + conv("y", "a")
    ),
    "initializers that are inputs too": Case(
        qdq("a", "x") + WEIGHT + conv("y", "a"), f"{IMAGE} x, int8[32,32,3,3] w, float s"
    ),
    "attention": Case(
        qdq("a", "x") + "[t] at = Transpose<perm=[0,1,3,2]>(k) " + qdq("c", "at") + "[y] y = MatMul(a, c)",
        f"{IMAGE} x, {IMAGE} k",
    ),
}
"""Graphs nothing is to be said about."""
