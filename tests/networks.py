"""Small real networks with random weights, built in code, for tests of every stage.

All are opset 17, IR 8, float32, valid under `onnx.checker`, with a dynamic axis `batch`, one input
`input` and one output `output`. The seed fixes every weight. `NETWORKS` lists them by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

OPSET = 17


class Builder:
    """Appends nodes and initializers; every method returns the name of the tensor it made.

    A layer called `name` has the node `name`, the tensor `name.out`, and initializers
    `name.weight`, `name.bias`.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def normal(self, name: str, shape: tuple[int, ...], scale: float) -> str:
        return self.constant(name, (self.random.standard_normal(shape) * scale).astype(np.float32))

    def node(self, op_type: str, name: str, inputs: list[str], **attributes: object) -> str:
        output = f"{name}.out"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output

    def conv(
        self,
        name: str,
        x: str,
        channels: tuple[int, int],
        kernel: int = 3,
        stride: int = 1,
        group: int = 1,
        bias: bool = True,
    ) -> str:
        """`channels` is (in, out); padding keeps the spatial size at stride 1."""
        fan_in = channels[0] // group * kernel**2
        shape = (channels[1], channels[0] // group, kernel, kernel)
        inputs = [x, self.normal(f"{name}.weight", shape, (2 / fan_in) ** 0.5)]
        if bias:
            inputs.append(self.normal(f"{name}.bias", (channels[1],), 0.1))
        pads = [kernel // 2] * 4
        return self.node("Conv", name, inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=group)

    def conv_transpose(self, name: str, x: str, channels: tuple[int, int], group: int = 1, bias: bool = True) -> str:
        """Doubles the spatial size."""
        shape = (channels[0], channels[1] // group, 2, 2)
        inputs = [x, self.normal(f"{name}.weight", shape, (2 * group / channels[0]) ** 0.5)]
        if bias:
            inputs.append(self.normal(f"{name}.bias", (channels[1],), 0.1))
        return self.node("ConvTranspose", name, inputs, kernel_shape=[2, 2], strides=[2, 2], group=group)

    def gemm(self, name: str, x: str, features: tuple[int, int], transposed: bool = True) -> str:
        shape = features[::-1] if transposed else features
        weight = self.normal(f"{name}.weight", shape, features[0] ** -0.5)
        bias = self.normal(f"{name}.bias", (features[1],), 0.1)
        return self.node("Gemm", name, [x, weight, bias], transB=int(transposed))

    def linear(self, name: str, x: str, features: tuple[int, int]) -> str:
        """MatMul, then Add of the bias (node `name.add`)."""
        product = self.node("MatMul", name, [x, self.normal(f"{name}.weight", features, features[0] ** -0.5)])
        return self.node("Add", f"{name}.add", [product, self.normal(f"{name}.bias", (features[1],), 0.1)])

    def batch_norm(self, name: str, x: str, channels: int) -> str:
        scale = (1 + 0.3 * self.random.standard_normal(channels)).astype(np.float32)
        variance = self.random.uniform(0.5, 2, channels).astype(np.float32)
        parameters = [
            self.constant(f"{name}.scale", scale),
            self.normal(f"{name}.shift", (channels,), 0.2),
            self.normal(f"{name}.mean", (channels,), 0.2),
            self.constant(f"{name}.variance", variance),
        ]
        return self.node("BatchNormalization", name, [x, *parameters], epsilon=1e-3)

    def conv_bn(self, name: str, x: str, channels: tuple[int, int], *, normalize: bool = True, **options: int) -> str:
        """Convolution and BatchNorm (node `name.bn`), or just a convolution with bias."""
        y = self.conv(name, x, channels, bias=not normalize, **options)
        return self.batch_norm(f"{name}.bn", y, channels[1]) if normalize else y

    def relu(self, name: str, x: str) -> str:
        return self.node("Relu", name, [x])

    def relu6(self, name: str, x: str) -> str:
        low = self.constant(f"{name}.low", np.float32(0))
        high = self.constant(f"{name}.high", np.float32(6))
        return self.node("Clip", name, [x, low, high])

    def classifier(self, x: str, channels: int, classes: int) -> str:
        """Global average (ReduceMean with its axes as an attribute, as below opset 18) and a Gemm."""
        pooled = self.node("ReduceMean", "pool", [x], axes=[2, 3], keepdims=0)
        return self.gemm("head", pooled, (channels, classes))

    def model(
        self, input_shape: tuple[int, ...], output_shape: tuple[int, ...], input_type: int = TensorProto.FLOAT
    ) -> onnx.ModelProto:
        """Close the graph at the last node; shapes are without the batch axis."""
        self.nodes[-1].output[0] = "output"
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("input", input_type, ["batch", *input_shape])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", *output_shape])],
            self.initializers,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(proto, full_check=True)
        return proto


def residual_cnn(seed: int = 0, batch_norm: bool = True) -> onnx.ModelProto:
    """A ResNet: one block with an identity shortcut, one with a strided projection; 3x16x16 to 10 classes."""
    b = Builder(seed)
    stem = b.relu("stem.relu", b.conv_bn("stem", "input", (3, 16), normalize=batch_norm))
    x = b.relu("block1.relu1", b.conv_bn("block1.conv1", stem, (16, 16), normalize=batch_norm))
    x = b.conv_bn("block1.conv2", x, (16, 16), normalize=batch_norm)
    block1 = b.relu("block1.relu2", b.node("Add", "block1.add", [x, stem]))
    shortcut = b.conv_bn("block2.shortcut", block1, (16, 32), kernel=1, stride=2, normalize=batch_norm)
    x = b.relu("block2.relu1", b.conv_bn("block2.conv1", block1, (16, 32), stride=2, normalize=batch_norm))
    x = b.conv_bn("block2.conv2", x, (32, 32), normalize=batch_norm)
    block2 = b.relu("block2.relu2", b.node("Add", "block2.add", [shortcut, x]))
    b.classifier(block2, 32, 10)
    return b.model((3, 16, 16), (10,))


def mlp(seed: int = 0) -> onnx.ModelProto:
    """Gemm with transB, MatMul + Add, Gemm without transB; 32 features to 16."""
    b = Builder(seed)
    x = b.relu("fc1.relu", b.gemm("fc1", "input", (32, 64)))
    x = b.relu("fc2.relu", b.linear("fc2", x, (64, 48)))
    b.gemm("fc3", x, (48, 16), transposed=False)
    return b.model((32,), (16,))


def depthwise_cnn(seed: int = 0) -> onnx.ModelProto:
    """A MobileNet: depthwise and pointwise convolutions with ReLU6; 3x16x16 to 10 classes."""
    b = Builder(seed)
    x = b.relu6("stem.clip", b.conv("stem", "input", (3, 16), stride=2))
    x = b.relu6("dw1.clip", b.conv("dw1", x, (16, 16), group=16))
    x = b.relu6("pw1.clip", b.conv("pw1", x, (16, 32), kernel=1))
    x = b.relu6("dw2.clip", b.conv("dw2", x, (32, 32), stride=2, group=32))
    x = b.relu6("pw2.clip", b.conv("pw2", x, (32, 48), kernel=1))
    b.classifier(x, 48, 10)
    return b.model((3, 16, 16), (10,))


def inception(seed: int = 0) -> onnx.ModelProto:
    """Three branches (1x1, 3x3, MaxPool + 1x1) joined by Concat; 3x12x12 to 10 classes."""
    b = Builder(seed)
    stem = b.relu("stem.relu", b.conv("stem", "input", (3, 16)))
    one = b.relu("one.relu", b.conv("one", stem, (16, 16), kernel=1))
    three = b.relu("three.relu", b.conv("three", stem, (16, 24)))
    pooled = b.node("MaxPool", "branch.pool", [stem], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    pool = b.relu("pooled.relu", b.conv("pooled", pooled, (16, 8), kernel=1))
    joined = b.node("Concat", "join", [one, three, pool], axis=1)
    x = b.relu("mix.relu", b.conv("mix", joined, (48, 32)))
    b.classifier(x, 32, 10)
    return b.model((3, 12, 12), (10,))


def decoder(seed: int = 0, batch_norm: bool = True) -> onnx.ModelProto:
    """An autoencoder: strided Conv, ConvTranspose (the second with two groups); 3x16x16 to 3x16x16."""
    b = Builder(seed)
    x = b.relu("down1.relu", b.conv_bn("down1", "input", (3, 16), stride=2, normalize=batch_norm))
    x = b.relu("down2.relu", b.conv_bn("down2", x, (16, 32), stride=2, normalize=batch_norm))
    x = b.conv_transpose("up1", x, (32, 16), bias=not batch_norm)
    x = b.relu("up1.relu", b.batch_norm("up1.bn", x, 16) if batch_norm else x)
    x = b.conv_transpose("up2", x, (16, 16), group=2, bias=not batch_norm)
    x = b.relu("up2.relu", b.batch_norm("up2.bn", x, 16) if batch_norm else x)
    b.node("Sigmoid", "image", [b.conv("out", x, (16, 3))])
    return b.model((3, 16, 16), (3, 16, 16))


def shared_maxpool(seed: int = 0) -> onnx.ModelProto:
    """One tensor read by a MaxPool and by a strided convolution, whose results are joined; 3x16x16 to 10 classes."""
    b = Builder(seed)
    stem = b.relu("stem.relu", b.conv("stem", "input", (3, 16)))
    pooled = b.node("MaxPool", "halve", [stem], kernel_shape=[2, 2], strides=[2, 2])
    left = b.relu("left.relu", b.conv("left", pooled, (16, 16)))
    right = b.relu("right.relu", b.conv("right", stem, (16, 16), stride=2))
    x = b.node("Concat", "join", [left, right], axis=1)
    flat = b.node("Flatten", "flat", [b.node("GlobalAveragePool", "pool", [x])])
    b.gemm("head", flat, (32, 10))
    return b.model((3, 16, 16), (10,))


NETWORKS: dict[str, Callable[..., onnx.ModelProto]] = {
    function.__name__: function for function in (residual_cnn, mlp, depthwise_cnn, inception, decoder, shared_maxpool)
}


def sample_input(proto: onnx.ModelProto, count: int, seed: int = 1) -> dict[str, NDArray[Any]]:
    """`count` standard normal samples for the network's one input, or ids of up to 47 if it takes integers."""
    tensor = proto.graph.input[0].type.tensor_type
    shape = (count, *(dim.dim_value for dim in tensor.shape.dim[1:]))
    random = np.random.default_rng(seed)
    if tensor.elem_type == TensorProto.INT64:
        return {"input": random.integers(0, 48, shape)}
    return {"input": random.standard_normal(shape).astype(np.float32)}


def streaming(rows: int | str = "batch") -> onnx.ModelProto:
    """A recurrent cell, one step of it: x [rows, 12] and state [1, rows, 16] give scores [rows, 5] and next_state."""
    b = Builder(0)
    hidden = b.node("Squeeze", "unpack", ["state", b.constant("first", np.array([0]))])
    seen = b.node("MatMul", "see", ["x", b.normal("see.weight", (12, 16), 0.4)])
    kept = b.node("MatMul", "keep", [hidden, b.normal("keep.weight", (16, 16), 0.3)])
    now = b.node("Tanh", "now", [b.node("Add", "both", [seen, kept])])
    b.node("MatMul", "judge", [now, b.normal("judge.weight", (16, 5), 0.5)])
    b.node("Unsqueeze", "pack", [now, "first"])
    b.nodes[-2].output[0], b.nodes[-1].output[0] = "scores", "next_state"
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        b.nodes, "streaming",
        [helper.make_tensor_value_info("x", float32, [rows, 12]),
         helper.make_tensor_value_info("state", float32, [1, rows, 16])],
        [helper.make_tensor_value_info("scores", float32, [rows, 5]),
         helper.make_tensor_value_info("next_state", float32, [1, rows, 16])],
        b.initializers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def stream(model: onnx.ModelProto | Path, x: NDArray[np.float32], rows: int = 1) -> NDArray[np.float32]:
    """What the `streaming` network says of sequences x [n, steps, 12], one after another: scores [n, steps, 5].

    One that takes so many `rows` gets each so often.
    """
    import onnxruntime as ort

    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    found = np.zeros((*x.shape[:2], 5), np.float32)
    for number, sequence in enumerate(x):
        held = np.zeros((1, rows, 16), np.float32)
        for step, row in enumerate(sequence):
            feeds = {"x": row[None].repeat(rows, axis=0), "state": held}
            scores, held = session.run(["scores", "next_state"], feeds)
            found[number, step] = scores[0]
    return found


def parsed(text: str, constants: Mapping[str, Any]) -> onnx.ModelProto:
    """The model that `text` spells in ONNX's own notation, with those of the constants that it names."""
    proto = parser.parse_model(text)
    named = set(re.findall(r"\w+", text))
    arrays = {name: np.asarray(value) for name, value in constants.items() if name in named}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return proto
