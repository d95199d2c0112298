"""Small transformers with random weights, spelled as different exporters do; see `networks` for the conventions.

Hidden size 32, two heads of 16 features, sequences of 16 or 17. The input of the language models is int64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from tests.networks import Builder

HIDDEN, HEADS, HEAD = 32, 2, 16
TOKENS, VOCABULARY = 16, 48


@dataclass
class Blocks:
    """Parts of transformers, written with a builder."""

    b: Builder

    def ints(self, name: str, *values: int) -> str:
        return self.b.constant(name, np.int64(values))

    def scalar(self, name: str, value: float) -> str:
        return self.b.constant(name, np.float32(value))

    def norm(self, name: str, x: str) -> str:
        scale = self.b.constant(f"{name}.scale", (1 + 0.1 * self.b.random.standard_normal(HIDDEN)).astype(np.float32))
        return self.b.node("LayerNormalization", name, [x, scale, self.b.normal(f"{name}.shift", (HIDDEN,), 0.1)])

    def heads(self, name: str, x: str, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
        shape = self.ints(f"{name}.shape", 0, -1, HEADS, HEAD)
        return self.b.node(
            "Transpose", f"{name}.heads", [self.b.node("Reshape", f"{name}.split", [x, shape])], perm=perm
        )

    def merge(self, name: str, x: str) -> str:
        rows = self.b.node("Transpose", f"{name}.rows", [x], perm=(0, 2, 1, 3))
        return self.b.node("Reshape", f"{name}.merge", [rows, self.ints(f"{name}.merged", 0, -1, HIDDEN)])

    def linear(
        self, name: str, x: str, features: tuple[int, int] = (HIDDEN, HIDDEN), *, bias_first: bool = False
    ) -> str:
        """MatMul, then Add of the bias as its first or second operand."""
        y = self.b.linear(name, x, features)
        if bias_first:
            self.b.nodes[-1].input[:] = reversed(self.b.nodes[-1].input)
        return y

    def attention(self, name: str, scores: str, value: str) -> str:
        return self.b.node(
            "MatMul", f"{name}.pv", [self.b.node("Softmax", f"{name}.softmax", [scores], axis=-1), value]
        )

    def erf_gelu(self, name: str, x: str) -> str:
        ratio = self.b.node("Div", f"{name}.div", [x, self.scalar(f"{name}.root", 2**0.5)])
        gate = self.b.node("Erf", f"{name}.erf", [ratio])
        shifted = self.b.node("Add", f"{name}.add", [gate, self.scalar(f"{name}.one", 1)])
        product = self.b.node("Mul", f"{name}.mul", [x, shifted])
        return self.b.node("Mul", f"{name}.half", [product, self.scalar(f"{name}.0.5", 0.5)])

    def tanh_gelu(self, name: str, x: str) -> str:
        cube = self.b.node("Pow", f"{name}.pow", [x, self.scalar(f"{name}.three", 3)])
        small = self.b.node("Mul", f"{name}.small", [cube, self.scalar(f"{name}.0.04", 0.044715)])
        total = self.b.node("Add", f"{name}.total", [x, small])
        scaled = self.b.node("Mul", f"{name}.scaled", [total, self.scalar(f"{name}.0.8", (2 / np.pi) ** 0.5)])
        gate = self.b.node("Tanh", f"{name}.tanh", [scaled])
        shifted = self.b.node("Add", f"{name}.add", [self.scalar(f"{name}.one", 1), gate])
        halved = self.b.node("Mul", f"{name}.half", [self.scalar(f"{name}.0.5", 0.5), x])
        return self.b.node("Mul", f"{name}.mul", [halved, shifted])

    def quick_gelu(self, name: str, x: str) -> str:
        scaled = self.b.node("Mul", f"{name}.scaled", [self.scalar(f"{name}.1.7", 1.702), x])
        return self.b.node("Mul", f"{name}.mul", [x, self.b.node("Sigmoid", f"{name}.gate", [scaled])])


def bert(seed: int = 0) -> onnx.ModelProto:
    """An encoder layer: 16 token ids to 10 classes.

    Id 0 is padding and masked by an Add; scores are divided; K is transposed by the permutation of its heads; the
    output projection and the classifier store their weights transposed; GELU by Erf.
    """
    b = Builder(seed)
    t = Blocks(b)
    words = b.node("Gather", "words", [b.normal("words.table", (VOCABULARY, HIDDEN), 1.0), "input"])
    x = t.norm("embedded", b.node("Add", "place", [words, b.normal("place.table", (1, TOKENS, HIDDEN), 0.5)]))
    padding = b.node(
        "Cast", "padding", [b.node("Equal", "is.padding", ["input", t.ints("zero", 0)])], to=TensorProto.FLOAT
    )
    bias = b.node("Mul", "mask", [padding, t.scalar("lowest", -10000)])
    bias = b.node("Unsqueeze", "mask.rows", [bias, t.ints("mask.axes", 1, 2)])
    query = t.heads("query", t.linear("query", x))
    key = t.heads("key", t.linear("key", x, bias_first=True), (0, 2, 3, 1))
    value = t.heads("value", t.linear("value", x))
    scores = b.node("Div", "scale", [b.node("MatMul", "qk", [query, key]), t.scalar("root", HEAD**0.5)])
    merged = t.merge("context", t.attention("attention", b.node("Add", "masked", [scores, bias]), value))
    stored = b.node("Transpose", "out.t", [b.normal("out.weight", (HIDDEN, HIDDEN), HIDDEN**-0.5)], perm=(1, 0))
    out = b.node("Add", "out.add", [b.node("MatMul", "out", [merged, stored]), b.normal("out.bias", (HIDDEN,), 0.1)])
    x = t.norm("attended", b.node("Add", "skip1", [out, x]))
    inner = t.erf_gelu("gelu", t.linear("up", x, (HIDDEN, 64)))
    x = t.norm("fed", b.node("Add", "skip2", [t.linear("down", inner, (64, HIDDEN)), x]))
    b.gemm("head", b.node("ReduceMean", "pool", [x], axes=[1], keepdims=0), (HIDDEN, 10))
    return b.model((TOKENS,), (10,), TensorProto.INT64)


def gpt(seed: int = 0) -> onnx.ModelProto:
    """A decoder block: 16 token ids to logits of 48 tokens each.

    Q, K and V are one Gemm between Reshapes, split; a causal mask by Where; GELU by Tanh; the output projection is
    the embedding table behind a Transpose.
    """
    b = Builder(seed)
    t = Blocks(b)
    table = b.normal("table", (VOCABULARY, HIDDEN), 0.5)
    x = b.node("Add", "place", [b.node("Gather", "words", [table, "input"]), b.normal("places", (TOKENS, HIDDEN), 0.3)])
    rows = b.node("Reshape", "rows", [t.norm("norm1", x), t.ints("rows.shape", -1, HIDDEN)])
    joint = b.gemm("qkv", rows, (HIDDEN, 3 * HIDDEN), transposed=False)
    joint = b.node("Reshape", "qkv.rows", [joint, t.ints("qkv.shape", -1, TOKENS, 3 * HIDDEN)])
    b.node("Split", "parts", [joint, t.ints("parts.sizes", *[HIDDEN] * 3)], axis=2)
    b.nodes[-1].output[:] = ["q", "k", "v"]
    query, value = t.heads("query", "q"), t.heads("value", "v")
    key = b.node("Transpose", "key.t", [t.heads("key", "k")], perm=(0, 1, 3, 2))
    scores = b.node("Mul", "scale", [b.node("MatMul", "qk", [query, key]), t.scalar("factor", HEAD**-0.5)])
    causal = b.constant("causal", np.tril(np.ones((1, 1, TOKENS, TOKENS), bool)))
    masked = b.node("Where", "masked", [causal, scores, t.scalar("lowest", -10000)])
    out = t.linear("out", t.merge("context", t.attention("attention", masked, value)))
    x = b.node("Add", "skip1", [x, out])
    inner = t.tanh_gelu("gelu", t.linear("up", t.norm("norm2", x), (HIDDEN, 64)))
    x = t.norm("norm3", b.node("Add", "skip2", [x, t.linear("down", inner, (64, HIDDEN))]))
    b.node("MatMul", "logits", [x, b.node("Transpose", "table.t", [table], perm=(1, 0))])
    return b.model((TOKENS,), (TOKENS, VOCABULARY), TensorProto.INT64)


def vit(seed: int = 0) -> onnx.ModelProto:
    """A vision transformer: 3x16x16 to 10 classes.

    Patches by a strided Conv, a class token by Concat, positions by Add, the scale on Q, Q, K and V are Gemms of one
    tensor seen as rows, QuickGELU.
    """
    b = Builder(seed)
    t = Blocks(b)
    weight = b.normal("patches.weight", (HIDDEN, 3, 4, 4), 48**-0.5)
    patches = b.node(
        "Conv",
        "patches",
        ["input", weight, b.normal("patches.bias", (HIDDEN,), 0.1)],
        kernel_shape=[4, 4],
        strides=[4, 4],
    )
    x = b.node("Reshape", "flat", [patches, t.ints("flat.shape", 0, HIDDEN, 16)])
    x = b.node("Transpose", "tokens", [x], perm=(0, 2, 1))
    batch = b.node("Shape", "batch", [x], start=0, end=1)
    size = b.node("Concat", "token.size", [batch, t.ints("token.rest", 1, HIDDEN)], axis=0)
    token = b.node("Expand", "token", [b.normal("token.value", (1, 1, HIDDEN), 1.0), size])
    x = b.node("Concat", "sequence", [token, x], axis=1)
    x = b.node("Add", "place", [x, b.normal("places", (1, 17, HIDDEN), 0.3)])
    normed = t.norm("norm1", x)
    parts = {}
    for name in ("query", "key", "value"):
        rows = b.node("Reshape", f"{name}.rows", [normed, t.ints(f"{name}.rows.shape", -1, HIDDEN)])
        parts[name] = b.node(
            "Reshape", f"{name}.back", [b.gemm(name, rows, (HIDDEN, HIDDEN)), t.ints(f"{name}.to", -1, 17, HIDDEN)]
        )
    query = b.node("Mul", "scale", [t.heads("query", parts["query"]), t.scalar("factor", HEAD**-0.5)])
    key = t.heads("key", parts["key"], (0, 2, 3, 1))
    scores = b.node("MatMul", "qk", [query, key])
    out = t.linear("out", t.merge("context", t.attention("attention", scores, t.heads("value", parts["value"]))))
    x = b.node("Add", "skip1", [x, out])
    inner = t.quick_gelu("gelu", t.linear("up", t.norm("norm2", x), (HIDDEN, 64)))
    x = t.norm("norm3", b.node("Add", "skip2", [x, t.linear("down", inner, (64, HIDDEN))]))
    first = b.node("Flatten", "first.flat", [b.node("Gather", "first", [x, t.ints("first.index", 0)], axis=1)])
    b.gemm("head", first, (HIDDEN, 10))
    return b.model((3, 16, 16), (10,))


def conv_attention(seed: int = 0) -> onnx.ModelProto:
    """Convolutions around attention over the pixels of a feature map; 3x8x8 to 10 classes.

    SiLU behind the stem; the result is added to the feature map.
    """
    b = Builder(seed)
    t = Blocks(b)
    x = b.conv("stem", "input", (3, HIDDEN), stride=2)
    x = b.node("Mul", "stem.silu", [x, b.node("Sigmoid", "stem.gate", [x])])
    pixels = b.node(
        "Transpose", "pixels", [b.node("Reshape", "flat", [x, t.ints("flat.shape", 0, HIDDEN, 16)])], perm=(0, 2, 1)
    )
    query = t.heads("query", t.linear("query", pixels))
    key = t.heads("key", t.linear("key", pixels), (0, 2, 3, 1))
    value = t.heads("value", t.linear("value", pixels))
    scores = b.node("Mul", "scale", [b.node("MatMul", "qk", [query, key]), t.scalar("factor", HEAD**-0.5)])
    out = t.linear("out", t.merge("context", t.attention("attention", scores, value)))
    back = b.node("Transpose", "back", [out], perm=(0, 2, 1))
    image = b.node("Reshape", "image", [back, t.ints("image.shape", 0, HIDDEN, 4, 4)])
    x = b.node("Add", "skip1", [x, image])
    y = b.conv("mix", x, (HIDDEN, HIDDEN))
    x = b.relu("mix.relu", b.node("Add", "skip2", [y, x]))
    b.classifier(x, HIDDEN, 10)
    return b.model((3, 8, 8), (10,))


TRANSFORMERS: dict[str, Callable[..., onnx.ModelProto]] = {
    function.__name__: function for function in (bert, gpt, vit, conv_attention)
}
