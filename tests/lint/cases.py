"""Small graphs with Q/DQ, written as ONNX text: pairs per rule, one that breaks it and one that just does not."""

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
    "s": floats(), "s2": floats(value=0.25), "s9": floats(value=0.05), "sh": floats(dtype=np.float16),
    "zero_scale": floats(value=0.0),
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
    "v": integers(np.int8, CHANNELS, CHANNELS, 3, 3, value=2), "s1": floats(1), "z1": integers(np.int8, 1),
    "wu": integers(np.uint8, CHANNELS, CHANNELS, 3, 3, value=3), "wzu": integers(np.uint8, CHANNELS),
    # matrices with a scale per block of rows
    "m8": integers(np.int8, CHANNELS, 16, value=2), "e8": small(TensorProto.FLOAT8E4M3FN, CHANNELS, 16),
    "blocks": numpy_helper.from_array(np.linspace(0.1, 0.9, 32, dtype=np.float32).reshape(2, 16)),
    "z_blocks": integers(np.int8, 2, 16), "z8_blocks": small(TensorProto.FLOAT8E4M3FN, 2, 16),
    "mtz8": small(TensorProto.FLOAT8E4M3FN, 16),
    # biases
    "b": floats(CHANNELS), "bh": floats(CHANNELS, dtype=np.float16), "b8": integers(np.int8, CHANNELS),
    "b32": integers(np.int32, CHANNELS), "zi": integers(np.int32),
    # matrices
    "m": integers(np.int8, CHANNELS, 10, value=2), "ms": floats(10), "mz": integers(np.int8, 10),
    "m4": small(TensorProto.INT4, CHANNELS, CHANNELS), "mt": integers(np.int8, 16, CHANNELS),
    "mts": floats(16), "mtsh": floats(16, dtype=np.float16), "mtz": integers(np.int8, 16),
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
OTHER_WEIGHT = "[v_dq] vd = DequantizeLinear<axis=0>(v, ws, wz) "
INT4_WEIGHT = "[w_dq] wd = DequantizeLinear<axis=0>(w4, ws, wz4) "
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
        header = f'<ir_version: 10, opset_import: ["":{self.opset},"trt":1,"com.microsoft":1]>'
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
TRT_FP8 = "[a_q] q = trt.TRT_FP8QuantizeLinear(x, s) [a_dq] a = trt.TRT_FP8DequantizeLinear(q, s) "
BRANCH_AND_SKIP = WEIGHT + qdq("a", "x") + conv("one", "a")
TWO_CONVS = WEIGHT + OTHER_WEIGHT + conv("one", "a") + conv("two", "d", "vd") + "[sum] y = Add(one, two)"
ROWS, HALF_ROWS, COLUMNS = "float[N,32] x", "float16[N,32] x", "float[N,16] y"


def product(
    data: str = "a", scale: str = "mts", zero: str = "mtz", codes: str = "mt", axis: int = 0, cast: str = ""
) -> str:
    """Node `y`, the product of `data` and a dequantized matrix; a `cast` makes `mh` of `md`."""
    return (
        f"[m_dq] md = DequantizeLinear<axis={axis}>({codes}, {scale}, {zero}) {cast}"
        f"[t] mtt = Transpose<perm=[1,0]>({'mh' if cast else 'md'}) [y] y = MatMul({data}, mtt)"
    )


def blocked(codes: str, zero: str) -> str:
    """Node `y`, the product of `a` and a matrix with a scale for every 16 rows."""
    weight = f"[m_dq] md = DequantizeLinear<axis=0, block_size=16>({codes}, blocks, {zero}_blocks) "
    return weight + "[y] y = MatMul(a, md)"


def branch(name: str, data: str, weight: str = "wd") -> str:
    """A convolution that a Relu follows, which writes `name`."""
    return conv(f"{name}_c", data, weight) + f"[{name}_r] {name} = Relu({name}_c) "


@dataclass(frozen=True)
class Pair:
    """A graph that breaks a rule and no other, and its neighbour that breaks none."""

    breaks: Case
    keeps: Case


PLAIN = Case(qdq("a", "x") + WEIGHT + conv("y", "a"))
PLAIN_FP8 = Case(qdq("a", "x", zero="z8") + FP8_WEIGHT + conv("y", "a", "wd8"))


def on_the_left(scale: str, zero: str, axis: int) -> Case:
    """A dequantized matrix times a quantized tensor."""
    body = f"[m_dq] md = DequantizeLinear<axis={axis}>(mt, {scale}, {zero}) [y] y = MatMul(md, a)"
    return Case(qdq("a", "x") + body, "float[N,32,16] x", "float[N,16,16] y")


PLAIN_PRODUCT = Case(qdq("a", "x") + product(), ROWS, COLUMNS)
PLAIN_CODES = Case("[a_dq] a = DequantizeLinear(x, s, z) " + WEIGHT + conv("y", "a"), "int8[N,32,8,8] x")
HALF = Case(qdq("a", "x", scale="sh") + HALF_WEIGHT + conv("y", "a", bias="bh"), f"{HALF_IMAGE} x", f"{HALF_IMAGE} y")
WEAKLY = Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), opset=17, metadata=WEAK)
BEHIND_RELU = WEIGHT + OTHER_WEIGHT + qdq("a", "x") + branch("r", "a", "vd")
JOINED = WEIGHT + OTHER_WEIGHT + qdq("a", "x") + branch("one", "a") + branch("two", "a", "vd")
LONG, LONGER = "float[N,32,16,8] y", "float[N,32,24,8] y"


def three_joined(scale: str = "s") -> Case:
    """Three branches that a Concat joins, the third from codes of `scale`."""
    nodes = qdq("d", "two", scale) + conv("three", "d") + "[join] j = Concat<axis=2>(one, two, three) "
    return Case(JOINED + nodes + qdq("e", "j") + conv("y", "e"), output=LONGER)


def _scale(value: float) -> Case:
    return Case(qdq("a", "x", scale="bad") + WEIGHT + conv("y", "a"), constants={"bad": floats(value=value)})


def _taps(size: int) -> Case:
    """An FP8 convolution with a kernel of `size` by `size`."""
    return Case(
        qdq("a", "x", zero="z8") + "[w_dq] wd = DequantizeLinear<axis=0>(big, ws, wz8) [y] y = Conv(a, wd)",
        output=f"float[N,32,{9 - size},{9 - size}] y",
        constants={"big": small(TensorProto.FLOAT8E4M3FN, CHANNELS, CHANNELS, size, size)},
    )


PAIRS: dict[str, tuple[Pair, ...]] = {
    "foreign-operator": (
        Pair(
            Case("[conv] y = ConvInteger(x, w)", "int8[N,32,8,8] x", "int32[N,32,6,6] y"),
            Case("[relu] y = Relu(x)", "int8[N,32,8,8] x", "int8[N,32,8,8] y"),
        ),
        Pair(
            Case("[conv] y = QLinearConv(x, s, z, w, ws, wz, s, z)", "int8[N,32,8,8] x", "int8[N,32,6,6] y"),
            PLAIN_CODES,
        ),
        Pair(
            Case("[sum] y = com.microsoft.QLinearAdd(x, s, z, x, s, z, s, z)", "int8[N,32,8,8] x", "int8[N,32,8,8] y"),
            PLAIN_CODES,
        ),
    ),
    "code-type": (
        Pair(Case(qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=0>(wu, ws, wzu) " + conv("y", "a")), PLAIN),
        Pair(
            Case(qdq("a", "x") + WEIGHT + "[b_dq] bd = DequantizeLinear(b32, s, zi) " + conv("y", "a", bias="bd")),
            PLAIN,
        ),
        Pair(
            Case("[a_dq] a = DequantizeLinear(x, s, zu) " + WEIGHT + conv("y", "a"), "uint8[N,32,8,8] x"), PLAIN_CODES
        ),
        Pair(
            Case(qdq("a", "x", zero="z16") + WEIGHT + conv("y", "a"), opset=21, constants={"z16": integers(np.int16)}),
            PLAIN,
        ),
    ),
    "zero-point": (
        Pair(Case(qdq("a", "x", zero="z5") + WEIGHT + conv("y", "a")), PLAIN),
        Pair(
            Case(
                qdq("a", "x", zero="half") + WEIGHT + conv("y", "a"), constants={"half": integers(np.uint8, value=128)}
            ),
            PLAIN,
        ),
        Pair(Case(qdq("a", "x", zero="zp") + WEIGHT + conv("y", "a"), f"{IMAGE} x, int8 zp"), PLAIN),
    ),
    "scale-value": (
        *(Pair(_scale(value), _scale(1e-30)) for value in (0.0, -1.0, float("nan"))),
        Pair(Case(qdq("a", "x", scale="sp") + WEIGHT + conv("y", "a"), f"{IMAGE} x, float sp"), PLAIN),
        Pair(
            Case(
                "[max] top = ReduceMax<keepdims=0>(x) " + qdq("a", "x", scale="top") + WEIGHT + conv("y", "a"), opset=17
            ),
            Case("[ratio] top = Div(s, s2) " + qdq("a", "x", scale="top") + WEIGHT + conv("y", "a"), opset=17),
        ),
    ),
    "scale-shape": (
        Pair(Case(qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=0>(w, ws31, wz31) " + conv("y", "a")), PLAIN),
        Pair(Case(qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=0>(w, ws, z) " + conv("y", "a")), PLAIN),
        Pair(
            Case(
                qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=0>(w, square, wz) " + conv("y", "a"),
                constants={"square": floats(2, 16)},
            ),
            PLAIN,
        ),
        Pair(
            Case(
                qdq("a", "x", "single", "zero") + WEIGHT + conv("y", "a"),
                constants={"single": floats(1, 1), "zero": integers(np.int8, 1, 1)},
            ),
            PLAIN,
        ),
    ),
    "operand-types": (
        Pair(Case(qdq("a", "x") + HALF_WEIGHT + conv("y", "a")), PLAIN),
        Pair(Case(qdq("a", "x") + WEIGHT + conv("y", "a", bias="bh")), PLAIN),
    ),
    "operand-formats": (
        Pair(Case(qdq("a", "x", zero="z8") + WEIGHT + conv("y", "a")), PLAIN_FP8),
        Pair(Case(qdq("a", "x") + FP8_WEIGHT + conv("y", "a", "wd8")), PLAIN_FP8),
        Pair(
            Case(qdq("a", "x") + INT4_WEIGHT + conv("y", "a"), opset=21), Case(INT4_WEIGHT + conv("y", "x"), opset=21)
        ),
        Pair(Case(qdq("a", "x", zero="z8") + product(), ROWS, COLUMNS), PLAIN_PRODUCT),
    ),
    "operand-scales": (
        Pair(
            Case(qdq("a", "x", "sh") + product(cast="[cast] mh = Cast<to=10>(md) "), HALF_ROWS, "float16[N,16] y"),
            Case(qdq("a", "x", "sh") + product(scale="mtsh"), HALF_ROWS, "float16[N,16] y"),
        ),
        Pair(
            Case(qdq("c", "x") + "[cast] a = Cast<to=10>(c) " + product(scale="mtsh"), ROWS, "float16[N,16] y"),
            Case("[cast] c = Cast<to=10>(x) " + qdq("a", "c", "sh") + product(scale="mtsh"), ROWS, "float16[N,16] y"),
        ),
    ),
    "activation-int4": (
        Pair(
            Case(qdq("a", "x", zero="z4") + INT4_WEIGHT + conv("y", "a"), opset=21),
            Case(INT4_WEIGHT + conv("y", "x"), opset=21),
        ),
        Pair(
            Case(qdq("a", "x", zero="z4") + product("a", "ws", "wz4", "m4"), ROWS, "float[N,32] y", opset=21),
            Case(product("x", "ws", "wz4", "m4"), ROWS, "float[N,32] y", opset=21),
        ),
    ),
    "unpaired-quantize": (
        Pair(
            Case("[a_q] q = QuantizeLinear(x, s, z) [soft] y = Softmax(q)", output="int8[N,32,8,8] y"),
            Case("[a_q] q = QuantizeLinear(x, s, z) [relu] y = Relu(q)", output="int8[N,32,8,8] y"),
        ),
        Pair(
            Case("[a_q] q = QuantizeLinear(x, s, z) [norm] y = LpNormalization(q)", output="int8[N,32,8,8] y"),
            Case("[a_q] q = QuantizeLinear(x, s, z) [sum] y = Add(q, q)", output="int8[N,32,8,8] y"),
        ),
    ),
    "weak-opset": (Pair(Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), opset=19, metadata=WEAK), WEAKLY),),
    "weak-type": (
        Pair(
            Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), f"{HALF_IMAGE} x", opset=17, metadata=WEAK),
            WEAKLY,
        ),
        Pair(Case(TRT_FP8 + "[relu] y = Relu(a)", opset=17, metadata=WEAK), WEAKLY),
    ),
    "unsigned-codes": (
        Pair(Case(qdq("a", "x", zero="zu") + WEIGHT + conv("y", "a")), PLAIN),
        Pair(
            Case("[a_q] q = QuantizeLinear(x, s) [a_dq] a = DequantizeLinear(q, s) " + WEIGHT + conv("y", "a")), PLAIN
        ),
        Pair(
            Case(BEHIND_RELU + qdq("c", "r", zero="zu") + conv("y", "c")),
            Case(BEHIND_RELU + qdq("c", "r") + conv("y", "c")),
        ),
    ),
    "scale-infinite": (
        Pair(_scale(float("inf")), _scale(1e30)),
        Pair(
            Case(
                qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=0>(w, endless, wz) " + conv("y", "a"),
                constants={"endless": floats(CHANNELS, value=float("inf"))},
            ),
            PLAIN,
        ),
    ),
    "blocked-product": (
        Pair(Case(qdq("a", "x") + blocked("m8", "z"), ROWS, COLUMNS, opset=21), PLAIN_PRODUCT),
        Pair(
            Case(qdq("a", "x", zero="z8") + blocked("e8", "z8"), ROWS, COLUMNS, opset=21),
            Case(
                qdq("a", "x", zero="z8") + "[m_dq] md = DequantizeLinear<axis=1>(e8, mts, mtz8) [y] y = MatMul(a, md)",
                ROWS,
                COLUMNS,
                opset=21,
            ),
        ),
    ),
    "activation-per-channel": (
        Pair(Case(qdq("a", "x", "ws", "wz") + WEIGHT + conv("y", "a")), PLAIN),
        Pair(
            Case(
                "[a_q] q = QuantizeLinear<axis=1>(x, ws, wz) [a_dq] a = DequantizeLinear<axis=1>(q, ws, wz) "
                + product(),
                ROWS,
                COLUMNS,
            ),
            PLAIN_PRODUCT,
        ),
    ),
    "scale-vector": (
        Pair(Case(qdq("a", "x", "s1", "z1") + WEIGHT + conv("y", "a")), PLAIN),
        Pair(
            Case(qdq("a", "x", "s1", "z") + WEIGHT + conv("y", "a")),
            Case(qdq("a", "x", "s1", "z1") + product(), ROWS, COLUMNS),
        ),
        Pair(
            Case(BEHIND_RELU + qdq("c", "r", "s1", "z1") + conv("y", "c")),
            Case(BEHIND_RELU + qdq("c", "r") + conv("y", "c")),
        ),
    ),
    "weight-axis": (
        Pair(Case(qdq("a", "x") + "[w_dq] wd = DequantizeLinear<axis=1>(w, ws, wz) " + conv("y", "a")), PLAIN),
        Pair(Case(qdq("a", "x") + product("a", "ws", "wz", axis=1), ROWS, COLUMNS), PLAIN_PRODUCT),
        Pair(on_the_left("ws", "wz", axis=1), on_the_left("mts", "mtz", axis=0)),
    ),
    "half-quantized": (
        Pair(Case(qdq("a", "x") + conv("y", "a", "wf")), PLAIN),
        Pair(Case(WEIGHT + conv("y", "x")), PLAIN),
        Pair(
            Case(qdq("a", "x") + "[relu] r = Relu(a) " + WEIGHT + conv("y", "r")),
            Case("[relu] r = Relu(x) " + qdq("a", "r") + WEIGHT + conv("y", "a")),
        ),
        Pair(
            Case(qdq("a", "x") + "[y] y = MatMul(a, other)", f"{IMAGE} x, {IMAGE} other"),
            Case(qdq("a", "x") + qdq("c", "other") + "[y] y = MatMul(a, c)", f"{IMAGE} x, {IMAGE} other"),
        ),
    ),
    "widening-cast": (
        Pair(
            Case(
                qdq("a", "x")
                + "[w_dq] wh = DequantizeLinear<axis=0>(w, wsh, wz) [cast] wd = Cast<to=1>(wh) "
                + conv("y", "a")
            ),
            PLAIN,
        ),
        Pair(
            Case(qdq("h", "x", "sh") + "[cast] a = Cast<to=1>(h) " + WEIGHT + conv("y", "a"), f"{HALF_IMAGE} x"),
            Case(
                qdq("a", "x") + "[half] h = Cast<to=10>(a) " + HALF_WEIGHT + conv("y", "h", bias="bh"),
                output=f"{HALF_IMAGE} y",
            ),
        ),
    ),
    "no-kernel": (
        Pair(_taps(6), _taps(5)),
        Pair(_taps(7), _taps(4)),
        Pair(
            Case(
                qdq("a", "x")
                + "[w_dq] wd = DequantizeLinear<axis=1>(w, ws, wz) [y] y = ConvTranspose<pads=[1,1,1,1]>(a, wd, b)"
            ),
            PLAIN,
        ),
    ),
    "concat-operand": (
        Pair(
            Case(
                JOINED + qdq("c", "one") + qdq("d", "two", "s2") + "[join] j = Concat<axis=2>(c, d) " + conv("y", "j"),
                output=LONG,
            ),
            Case(
                JOINED + qdq("c", "one") + qdq("d", "two") + "[join] j = Concat<axis=2>(c, d) " + conv("y", "j"),
                output=LONG,
            ),
        ),
        Pair(
            Case(
                JOINED
                + qdq("c", "one")
                + qdq("d", "two", "s2")
                + "[join] j = Concat<axis=2>(c, d) [t] k = MaxPool<kernel_shape=[1,1]>(j) "
                + conv("y", "k"),
                output=LONG,
            ),
            Case(
                JOINED
                + qdq("c", "one")
                + qdq("d", "two")
                + "[join] j = Concat<axis=2>(c, d) [t] k = MaxPool<kernel_shape=[1,1]>(j) "
                + conv("y", "k"),
                output=LONG,
            ),
        ),
    ),
    "blocked-epilogue": (
        Pair(
            Case(BRANCH_AND_SKIP + qdq("c", "one") + "[relu] y = Relu(c)"),
            Case(BRANCH_AND_SKIP + "[relu] y = Relu(one)"),
        ),
        Pair(
            Case(BRANCH_AND_SKIP + qdq("c", "one") + "[add] y = Add(c, x)"),
            Case(BRANCH_AND_SKIP + "[add] y = Add(one, x)"),
        ),
        Pair(
            Case(
                qdq("a", "x") + product().replace("[y] y", "[dot] p") + " " + qdq("c", "p") + "[add] y = Add(c, mts)",
                ROWS,
                COLUMNS,
            ),
            Case(qdq("a", "x") + product().replace("[y] y", "[dot] p") + " [add] y = Add(p, mts)", ROWS, COLUMNS),
        ),
    ),
    "residual-high-precision": (
        Pair(
            Case(BRANCH_AND_SKIP + "[add] sum = Add(one, x) [relu] r = Relu(sum) " + qdq("c", "r") + conv("y", "c")),
            Case(BRANCH_AND_SKIP + "[add] sum = Add(one, a) [relu] r = Relu(sum) " + qdq("c", "r") + conv("y", "c")),
        ),
        Pair(
            Case(
                OTHER_WEIGHT
                + BRANCH_AND_SKIP
                + conv("two", "a", "vd")
                + "[add] sum = Add(one, two) "
                + qdq("c", "sum")
                + conv("y", "c")
            ),
            Case(
                OTHER_WEIGHT
                + BRANCH_AND_SKIP
                + conv("two", "a", "vd")
                + qdq("skip", "one")
                + "[add] sum = Add(skip, two) "
                + qdq("c", "sum")
                + conv("y", "c")
            ),
        ),
    ),
    "requantize": (
        Pair(
            Case(BEHIND_RELU + qdq("c", "r") + qdq("d", "c", "s2") + conv("y", "d")),
            Case(BEHIND_RELU + qdq("c", "r") + conv("y", "c")),
        ),
        Pair(
            Case(
                BEHIND_RELU
                + qdq("c", "r")
                + "[pool] p = MaxPool<kernel_shape=[2,2]>(c) "
                + qdq("d", "p", "s2")
                + conv("y", "d"),
                output="float[N,32,7,7] y",
            ),
            Case(
                BEHIND_RELU
                + qdq("c", "r")
                + "[pool] p = MaxPool<kernel_shape=[2,2]>(c) "
                + qdq("d", "p")
                + conv("y", "d"),
                output="float[N,32,7,7] y",
            ),
        ),
    ),
    "concat-scales": (
        Pair(
            three_joined("s2"),
            three_joined(),
        ),
        Pair(
            Case(
                JOINED
                + qdq("c", "one")
                + qdq("d", "two", "s2")
                + "[join] j = Concat<axis=2>(c, d) "
                + qdq("e", "j", "s2")
                + conv("y", "e"),
                output=LONG,
            ),
            Case(
                JOINED
                + qdq("c", "one")
                + qdq("d", "two")
                + "[join] j = Concat<axis=2>(c, d) "
                + qdq("e", "j")
                + conv("y", "e"),
                output=LONG,
            ),
        ),
    ),
    "tensor-two-scales": (
        Pair(
            Case(qdq("a", "x") + qdq("d", "x", scale="s2") + TWO_CONVS),
            Case(qdq("a", "x") + TWO_CONVS.replace("(d,", "(a,")),
        ),
        Pair(
            Case(
                BEHIND_RELU
                + qdq("c", "r")
                + qdq("d", "r", "s2")
                + conv("one", "c")
                + conv("two", "d", "vd")
                + "[sum] y = Add(one, two)"
            ),
            Case(BEHIND_RELU + qdq("c", "r") + conv("one", "c") + conv("two", "c", "vd") + "[sum] y = Add(one, two)"),
        ),
    ),
    "standalone": (
        Pair(Case(BEHIND_RELU + qdq("c", "r") + "[soft] y = Softmax(c)"), Case(BEHIND_RELU + "[soft] y = Softmax(r)")),
        Pair(Case(qdq("y", "x")), Case("[a_q] y = QuantizeLinear(x, s, z)", output="int8[N,32,8,8] y")),
        Pair(
            Case(qdq("a", "x") + "[turn] t = Transpose<perm=[0,1,3,2]>(a) [mean] y = ReduceMean<keepdims=1>(t)"),
            Case("[turn] t = Transpose<perm=[0,1,3,2]>(x) [mean] y = ReduceMean<keepdims=1>(t)"),
        ),
    ),
    "pool-output": (
        Pair(
            Case(BEHIND_RELU + qdq("c", "r") + "[pool] y = GlobalAveragePool(c)", output="float[N,32,1,1] y"),
            Case(BEHIND_RELU + "[pool] y = GlobalAveragePool(r)", output="float[N,32,1,1] y"),
        ),
        Pair(
            Case(
                BEHIND_RELU
                + qdq("c", "r")
                + "[pool] p = AveragePool<kernel_shape=[2,2]>(c) [neg] n = Neg(p) "
                + qdq("d", "n")
                + conv("y", "d"),
                output="float[N,32,7,7] y",
            ),
            Case(
                BEHIND_RELU
                + "[pool] p = AveragePool<kernel_shape=[2,2]>(r) [neg] n = Neg(p) "
                + qdq("d", "n")
                + conv("y", "d"),
                output="float[N,32,7,7] y",
            ),
        ),
    ),
    "narrow-weight": (
        Pair(Case(qdq("a", "x") + product("a", "ws", "wz4", "m4"), ROWS, "float[N,32] y", opset=21), PLAIN_PRODUCT),
        Pair(
            Case(
                qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=1>(m4, ws, wz4) [y] y = Gemm(a, md)",
                ROWS,
                "float[N,32] y",
                opset=21,
            ),
            Case(
                "[m_dq] md = DequantizeLinear<axis=1>(m4, ws, wz4) [y] y = Gemm(x, md)", ROWS, "float[N,32] y", opset=21
            ),
        ),
    ),
    "no-quantizers": (
        Pair(
            Case("[relu] y = Relu(x)"),
            Case("[relu] r = Relu(x) [r_q] y = QuantizeLinear(r, s, z)", output="int8[N,32,8,8] y"),
        ),
        Pair(Case(conv("y", "x", "wf")), Case(INT4_WEIGHT + conv("y", "x"), opset=21)),
    ),
    "pair-mismatch": (
        Pair(
            Case("[a_q] q = QuantizeLinear(x, s, z) [a_dq] a = DequantizeLinear(q, s2, z) " + WEIGHT + conv("y", "a")),
            PLAIN,
        ),
        Pair(
            Case(
                BEHIND_RELU
                + "[c_q] q = QuantizeLinear(r, s, z) [c_dq] c = DequantizeLinear(q, s2, z) "
                + conv("y", "c")
            ),
            Case(BEHIND_RELU + qdq("c", "r") + conv("y", "c")),
        ),
    ),
    "scale-type": (
        Pair(
            Case(
                "[a_q] q = QuantizeLinear(x, s, z) [a_dq] a = DequantizeLinear(q, sh, z) "
                + HALF_WEIGHT
                + conv("y", "a", bias="bh"),
                f"{HALF_IMAGE} x",
                f"{HALF_IMAGE} y",
            ),
            HALF,
        ),
        Pair(
            Case("[a_q] q = QuantizeLinear(x, sh, z) [a_dq] a = DequantizeLinear(q, s, z) " + WEIGHT + conv("y", "a")),
            PLAIN,
        ),
    ),
    "opset": (
        Pair(Case(PLAIN_FP8.body, opset=17), PLAIN_FP8),
        Pair(Case(PLAIN.body, opset=12), PLAIN),
    ),
    "bias-quantized": (
        Pair(
            Case(qdq("a", "x") + WEIGHT + "[b_dq] bd = DequantizeLinear(b8, s, z) " + conv("y", "a", bias="bd")), PLAIN
        ),
        Pair(
            Case(
                qdq("a", "x") + WEIGHT + "[b_dq] bd = DequantizeLinear<axis=0>(b8, ws, wz) " + conv("y", "a", bias="bd")
            ),
            PLAIN,
        ),
    ),
    "dq-q-leftover": (
        Pair(Case(qdq("a", "x") + qdq("c", "a") + WEIGHT + conv("y", "c")), PLAIN),
        Pair(
            Case(BEHIND_RELU + qdq("c", "r") + qdq("d", "c") + conv("y", "d")),
            Case(BEHIND_RELU + qdq("c", "r") + conv("y", "c")),
        ),
    ),
    "mixed-formats": (
        Pair(
            Case(
                qdq("a", "x")
                + qdq("d", "x", zero="z8")
                + WEIGHT
                + FP8_WEIGHT
                + conv("one", "a")
                + conv("two", "d", "wd8")
                + "[sum] y = Add(one, two)"
            ),
            Case(qdq("a", "x") + TWO_CONVS.replace("(d,", "(a,")),
        ),
        Pair(
            Case(BEHIND_RELU + qdq("c", "r", zero="z8") + FP8_WEIGHT + conv("y", "c", "wd8")),
            Case(BEHIND_RELU + qdq("c", "r") + conv("y", "c")),
        ),
    ),
    "kernel-limit": (
        Pair(
            Case(
                qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=1>(m, ms, mz) [y] y = MatMul(a, md)",
                ROWS,
                "float[N,10] y",
            ),
            PLAIN_PRODUCT,
        ),
        Pair(
            Case(
                qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=0>(mt, mts, mtz) [y] y = Gemm<transB=1>(a, md)",
                "float[1,32] x",
                "float[1,16] y",
            ),
            Case(
                qdq("a", "x") + "[m_dq] md = DequantizeLinear<axis=0>(mt, mts, mtz) [y] y = Gemm<transB=1>(a, md)",
                "float[2,32] x",
                "float[2,16] y",
            ),
        ),
    ),
    "weak-stored-weight": (Pair(Case(PLAIN.body, opset=17, metadata=WEAK), WEAKLY),),
    "scale-subnormal": (
        Pair(
            Case(
                qdq("a", "x", scale="sh")
                + "[w_dq] wd = DequantizeLinear<axis=0>(w, tiny, wz) "
                + conv("y", "a", bias="bh"),
                f"{HALF_IMAGE} x",
                f"{HALF_IMAGE} y",
            ),
            HALF,
        ),
        Pair(
            Case(
                qdq("a", "x", scale="least") + HALF_WEIGHT + conv("y", "a", bias="bh"),
                f"{HALF_IMAGE} x",
                f"{HALF_IMAGE} y",
                constants={"least": floats(value=6e-5, dtype=np.float16)},
            ),
            Case(
                qdq("a", "x", scale="least") + HALF_WEIGHT + conv("y", "a", bias="bh"),
                f"{HALF_IMAGE} x",
                f"{HALF_IMAGE} y",
                constants={"least": floats(value=2.0**-14, dtype=np.float16)},
            ),
        ),
    ),
    "duplicate-quantizer": (
        Pair(Case(qdq("a", "x") + qdq("d", "x") + TWO_CONVS), Case(qdq("a", "x") + TWO_CONVS.replace("(d,", "(a,"))),
        Pair(
            Case(
                BEHIND_RELU
                + qdq("c", "r")
                + qdq("d", "r")
                + conv("one", "c")
                + conv("two", "d", "vd")
                + "[sum] y = Add(one, two)"
            ),
            Case(BEHIND_RELU + qdq("c", "r") + conv("one", "c") + conv("two", "c", "vd") + "[sum] y = Add(one, two)"),
        ),
    ),
    "movable": (
        Pair(
            Case("[pool] p = MaxPool<kernel_shape=[1,1]>(x) " + qdq("a", "x") + qdq("d", "p") + TWO_CONVS),
            Case(qdq("a", "x") + "[pool] d = MaxPool<kernel_shape=[1,1]>(a) " + TWO_CONVS),
        ),
        Pair(
            Case("[turn] p = Transpose<perm=[0,1,3,2]>(x) " + qdq("a", "x") + qdq("d", "p") + TWO_CONVS),
            Case(qdq("a", "x") + "[turn] d = Transpose<perm=[0,1,3,2]>(a) " + TWO_CONVS),
        ),
    ),
    "concat-own-scales": (
        Pair(
            three_joined("s9"),
            three_joined(),
        ),
    ),
}
"""Rule to pairs of graphs."""

BROKEN = {rule: tuple(pair.breaks for pair in pairs) for rule, pairs in PAIRS.items()}
"""Rule to graphs that break it and no other."""

SOUND: dict[str, Case] = {
    "plain": Case(qdq("a", "x") + WEIGHT + conv("c", "a") + "[relu] y = Relu(c)"),
    "float weights": Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), opset=13),
    "weak": Case(qdq("a", "x") + FLOAT_WEIGHT + conv("y", "a"), opset=17, metadata=WEAK),
    "half": Case(
        qdq("a", "x", scale="sh") + HALF_WEIGHT + conv("y", "a", bias="bh"), f"{HALF_IMAGE} x", f"{HALF_IMAGE} y"
    ),
    "fp8": Case(qdq("a", "x", zero="z8") + FP8_WEIGHT + conv("y", "a", "wd8")),
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
    "codes fed": PLAIN_CODES,
    "codes read by what takes integers": Case(
        "[a_q] q = QuantizeLinear(x, s, z) [relu] r = Relu(q) [a_dq] a = DequantizeLinear(r, s, z) "
        + WEIGHT
        + conv("y", "a")
    ),
    "ONNX Runtime's own operators": Case(
        "[a_q] q = com.microsoft.QuantizeLinear(x, s, z) [a_dq] a = com.microsoft.DequantizeLinear(q, s, z) "
        + WEIGHT
        + conv("y", "a")
    ),
    "a Pad between": Case(
        qdq("a", "x") + "[pad] p = Pad(a, pads) " + WEIGHT + conv("y", "p"),
        output="float[N,32,10,10] y",
        constants={"pads": numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]))},
    ),
    "a Cast behind an activation": Case(
        qdq("a", "x") + "[half] h = Cast<to=10>(a) " + HALF_WEIGHT + conv("y", "h", bias="bh"), output=f"{HALF_IMAGE} y"
    ),
    "attention": Case(
        qdq("a", "x") + "[t] at = Transpose<perm=[0,1,3,2]>(k) " + qdq("c", "at") + "[y] y = MatMul(a, c)",
        f"{IMAGE} x, {IMAGE} k",
    ),
}
"""Graphs nothing is to be said about."""
