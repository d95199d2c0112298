"""Transformers in 8 bit against the same network written in numpy, quantizers included, from the formulas alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import erf

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper

from tests.emit.examples import ALL_NETWORKS, deviation, feeds, prepared, uniform
from tests.prepared import RUNTIME
from tests.transformers import HEAD, HEADS, HIDDEN
from trt_mpq.emit import Emitter
from trt_mpq.runtime.base import Array
from trt_mpq.types import Precision, PrecisionPlan, Ranges, TensorRange

FP32, FP16, _, FP8, INT8, _ = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
formats = pytest.mark.parametrize("precision", [INT8, FP8])


def fake(values: Array, amax: Array, precision: Precision) -> Array:
    """Quantized and back, with a scale of FP16 for `amax`, which broadcasts to `values`."""
    largest = 127 if precision is INT8 else 448
    scale = (np.float32(amax) / np.float32(largest)).astype(np.float16).astype(np.float32)
    if precision is INT8:
        return np.clip(np.rint(values / scale), -128, 127) * scale
    return np.clip(values / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


@dataclass
class Numpy:
    """A network in numpy that notes every quantized activation's magnitude, or quantizes with magnitudes noted."""

    constants: dict[str, Array]
    precision: Precision | None = None
    magnitudes: dict[str, float] | None = None
    attention: bool = True

    def __post_init__(self) -> None:
        self.seen: dict[str, float] = {}

    def activation(self, name: str, x: Array) -> Array:
        self.seen[name] = float(np.abs(x).max())
        return x if self.precision is None else fake(x, np.float32(self.magnitudes[name]), self.precision)

    def linear(self, name: str, x: Array, read: str, weight: str | None = None, transposed: bool = False) -> Array:
        matrix = self.constants[weight or f"{name}.weight"]
        matrix = matrix.T if transposed else matrix
        if self.precision is not None:
            matrix = fake(matrix, np.abs(matrix).max(axis=0), self.precision)
        return self.activation(read, x) @ matrix + self.constants.get(f"{name}.bias", np.float32(0))

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * self.constants[f"{name}.scale"] + self.constants[f"{name}.shift"]

    def operand(self, name: str, x: Array) -> Array:
        return self.activation(name, x) if self.attention else x

    def attend(
        self, query: Array, key: Array, value: Array, scale: float, mask: Array, names: tuple[str, str]
    ) -> Array:
        """From [n, tokens, hidden] each to the same; `names` are the tensors of key and value."""
        query, key, value = (heads(x) for x in (query, key, value))
        scores = self.operand("query.heads.out", query) @ self.operand(names[0], key).transpose(0, 1, 3, 2) * scale
        grown = np.exp((masked := scores + mask) - masked.max(axis=-1, keepdims=True))
        probabilities = grown / grown.sum(axis=-1, keepdims=True)
        out = self.operand("attention.softmax.out", probabilities) @ self.operand(names[1], value)
        return out.transpose(0, 2, 1, 3).reshape(len(out), -1, HIDDEN)


def heads(x: Array) -> Array:
    return x.reshape(len(x), -1, HEADS, HEAD).transpose(0, 2, 1, 3)


def bert(net: Numpy, ids: Array) -> Array:
    c = net.constants
    x = net.norm("embedded", c["words.table"][ids] + c["place.table"])
    query, key, value = (net.linear(name, x, "embedded.out") for name in ("query", "key", "value"))
    mask = np.where(ids == 0, np.float32(-10000), 0)[:, None, None, :]
    context = net.attend(query, key, value, HEAD**-0.5, mask, ("key.heads.out", "value.heads.out"))
    out = net.linear("out", context, "context.merge.out", "out.weight", transposed=True)
    x = net.norm("attended", out + x)
    up = net.linear("up", x, "attended.out")
    inner = 0.5 * up * (1 + np.vectorize(erf, otypes=[np.float32])(up / np.sqrt(np.float32(2))))
    x = net.norm("fed", net.linear("down", inner, "gelu.half.out") + x)
    return net.linear("head", x.mean(axis=1), "pool.out", transposed=True)


def gpt(net: Numpy, ids: Array) -> Array:
    c = net.constants
    x = c["table"][ids] + c["places"]
    joint = net.linear("qkv", net.norm("norm1", x), "rows.out")
    query, key, value = np.split(joint, 3, axis=-1)
    tokens = ids.shape[1]
    mask = np.where(np.tril(np.ones((tokens, tokens), bool)), np.float32(0), np.float32(-10000))
    context = net.attend(query, key, value, HEAD**-0.5, mask, ("key.t.out", "value.heads.out"))
    x = x + net.linear("out", context, "context.merge.out")
    up = net.linear("up", net.norm("norm2", x), "norm2.out")
    inner = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
    x = net.norm("norm3", x + net.linear("down", inner, "gelu.mul.out"))
    return net.linear("logits", x, "norm3.out", "table", transposed=True)


NETWORKS: dict[str, Callable[[Numpy, Array], Array]] = {"bert": bert, "gpt": gpt}
networks = pytest.mark.parametrize("name", NETWORKS)


@cache
def constants(name: str) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in ALL_NETWORKS[name]().graph.initializer}


@cache
def exact(name: str) -> tuple[Array, dict[str, float]]:
    """Output in FP32 and the magnitude of every activation that some group quantizes."""
    net = Numpy(constants(name))
    return NETWORKS[name](net, feeds(name)["input"]), net.seen


@cache
def emitter(name: str) -> Emitter:
    """With the magnitudes numpy saw, and nothing that fits into FP16, so that quantizers alone round."""
    tensors = {
        tensor: TensorRange(-1e6, 1e6, dict.fromkeys((INT8, FP8), amax)) for tensor, amax in exact(name)[1].items()
    }
    everything = {
        str(value.name): TensorRange(-1e6, 1e6) for node in prepared(name).graph.graph for value in node.outputs
    }
    return Emitter(prepared(name).graph, prepared(name).grouping, Ranges({}, 16, everything | tensors))


@networks
def test_the_network_in_numpy_is_the_network(name: str) -> None:
    found = RUNTIME.load(prepared(name).graph).run(feeds(name))["output"]
    np.testing.assert_allclose(found, exact(name)[0], rtol=1e-4, atol=1e-4)
    quantized = {site.tensor for group in prepared(name).grouping.groups for site in group.inputs}
    assert exact(name)[1].keys() == quantized


@networks
@formats
@pytest.mark.parametrize("attention", [True, False], ids=["attention", "products-only"])
def test_reference_equals_numpy_with_quantizers(name: str, precision: Precision, attention: bool) -> None:
    plan = uniform(name, precision)
    if not attention:
        plan = plan.replace({group.id: FP32 for group in prepared(name).grouping.groups if not group.weights})
    expected = NETWORKS[name](Numpy(constants(name), precision, exact(name)[1], attention), feeds(name)["input"])
    found = RUNTIME.load(emitter(name).reference(plan)).run(feeds(name))["output"]
    assert deviation(exact(name)[0], expected) > 5e-3
    equal = np.isclose(found, expected, rtol=1e-3, atol=1e-4).reshape(len(found), -1).all(axis=1)
    assert equal.mean() >= 0.75, "sums in another order turn a code here and there, not in most samples"


@networks
def test_only_attention_in_eight_bit_touches_only_attention(name: str) -> None:
    """Its quantizers stand at the two products, and every weight stays as it is."""
    network = prepared(name)
    (attention,) = (group for group in network.grouping.groups if not group.weights)
    plan = PrecisionPlan.of({group.id: FP8 if group is attention else FP16 for group in network.grouping.groups})
    strong = emitter(name).strong(plan)
    readers = {
        (reader.name, index)
        for node in strong.graph
        if node.op_type == "DequantizeLinear"
        for reader, index in node.outputs[0].uses()
    }
    assert readers == {("qk", 0), ("qk", 1), ("attention.pv", 0), ("attention.pv", 1)}
