"""A network of ResNet-50's shape with random weights, for benchmarks: latency does not depend on the values.

The weights keep the second moment of activations near one through the whole network (He initialization, and a small
gain on the branch of every residual block), so that nothing comes near the limits of FP16. What such a network
computes means nothing: its outputs are compared with its own FP32 outputs, never with labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trt_mpq.artifacts.files import atomic_path

OPSET, IR_VERSION = 17, 8
IMAGE = (3, 224, 224)
CLASSES = 1000
RELU_GAIN, LINEAR_GAIN, BRANCH_GAIN = 2.0**0.5, 1.0, 0.25
"""Gain of a convolution before a Relu, of one that adds nothing to the size, and of the end of a residual branch."""


class ResNet:
    """A bottleneck ResNet in the making; every method that adds a layer returns the name of its output.

    Args:
        seed: Fixes every weight.
        batch_norm: Keep a BatchNormalization behind every convolution, as training frameworks export it; its
            statistics leave the values nearly as they are. Otherwise convolutions have a bias, as if it were folded.
    """

    def __init__(self, seed: int, batch_norm: bool) -> None:
        self._random = np.random.default_rng(seed)
        self._batch_norm = batch_norm
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def build(self, depths: tuple[int, ...], width: int, image: tuple[int, int, int], classes: int) -> onnx.ModelProto:
        """The whole network: `depths` blocks per stage, whose first has `width` channels inside its blocks."""
        x = self._relu("stem", self._conv("stem", "input", (image[0], width), kernel=7, stride=2))
        x = self._node("MaxPool", "pool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        channels = width
        for stage, depth in enumerate(depths):
            inner = width << stage
            for block in range(depth):
                stride = 2 if block == 0 and stage > 0 else 1
                x = self._bottleneck(f"layer{stage + 1}.{block}", x, (channels, inner), stride)
                channels = 4 * inner
        flat = self._node("Flatten", "flatten", [self._node("GlobalAveragePool", "average", [x])])
        head = [
            flat,
            self._normal("head.weight", (classes, channels), channels**-0.5),
            self._small("head.bias", classes),
        ]
        self._node("Gemm", "head", head, transB=1)
        return self._model(image, classes)

    def _bottleneck(self, name: str, x: str, channels: tuple[int, int], stride: int) -> str:
        """1 x 1, 3 x 3 (with the stride, as in version 1.5) and 1 x 1 convolutions around a shortcut."""
        outer, inner = channels
        y = self._relu(f"{name}.1", self._conv(f"{name}.conv1", x, (outer, inner), kernel=1))
        y = self._relu(f"{name}.2", self._conv(f"{name}.conv2", y, (inner, inner), kernel=3, stride=stride))
        y = self._conv(f"{name}.conv3", y, (inner, 4 * inner), kernel=1, gain=BRANCH_GAIN)
        if stride != 1 or outer != 4 * inner:
            x = self._conv(f"{name}.shortcut", x, (outer, 4 * inner), kernel=1, stride=stride, gain=LINEAR_GAIN)
        return self._relu(f"{name}.3", self._node("Add", f"{name}.add", [y, x]))

    def _conv(
        self, name: str, x: str, channels: tuple[int, int], *, kernel: int, stride: int = 1, gain: float = RELU_GAIN
    ) -> str:
        fan_in = channels[0] * kernel**2
        weight = self._normal(f"{name}.weight", (channels[1], channels[0], kernel, kernel), gain * fan_in**-0.5)
        bias = [] if self._batch_norm else [self._small(f"{name}.bias", channels[1])]
        y = self._node(
            "Conv", name, [x, weight, *bias], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4
        )
        return self._normalized(f"{name}.bn", y, channels[1]) if self._batch_norm else y

    def _normalized(self, name: str, x: str, channels: int) -> str:
        statistics = [
            self._constant(f"{name}.{part}", self._random.uniform(0.9, 1.1, channels)) for part in ("scale", "variance")
        ]
        shifts = [self._small(f"{name}.{part}", channels) for part in ("shift", "mean")]
        inputs = [x, statistics[0], shifts[0], shifts[1], statistics[1]]
        return self._node("BatchNormalization", name, inputs, epsilon=1e-5)

    def _relu(self, name: str, x: str) -> str:
        return self._node("Relu", f"{name}.relu", [x])

    def _node(self, op_type: str, name: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{name}.out"
        self._nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output

    def _normal(self, name: str, shape: tuple[int, ...], scale: float) -> str:
        return self._constant(name, self._random.standard_normal(shape, dtype=np.float32) * np.float32(scale))

    def _small(self, name: str, channels: int) -> str:
        return self._normal(name, (channels,), 0.05)

    def _constant(self, name: str, values: NDArray[np.floating[Any]]) -> str:
        self._weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def _model(self, image: tuple[int, int, int], classes: int) -> onnx.ModelProto:
        self._nodes[-1].output[0] = "logits"
        inputs = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *image])
        outputs = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
        graph = helper.make_graph(self._nodes, "resnet", [inputs], [outputs], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def resnet50(seed: int = 0, batch_norm: bool = True) -> onnx.ModelProto:
    """ResNet-50 version 1.5: `input` [batch, 3, 224, 224] to `logits` [batch, 1000], 25.6 million weights."""
    return ResNet(seed, batch_norm).build((3, 4, 6, 3), 64, IMAGE, CLASSES)


def random_images(count: int, seed: int) -> NDArray[np.float32]:
    """`count` images [count, 3, 224, 224] of smooth random content, with mean 0 and variance near 1.

    Neighbouring pixels go together as in photographs: noise of several sizes is added up.
    """
    random = np.random.default_rng(seed)
    side = IMAGE[1]
    total = np.zeros((count, *IMAGE), np.float32)
    for cells in (4, 14, 56, side):
        noise = random.standard_normal((count, IMAGE[0], cells, cells), dtype=np.float32)
        total += np.repeat(np.repeat(noise, side // cells, axis=2), side // cells, axis=3)
    return total / np.float32(2)


def write_resnet50(path: Path, seed: int = 0) -> Path:
    """Write the network of `resnet50` (about 100 MB) to `path`, unless it is there; returns `path`."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(resnet50(seed).SerializeToString(deterministic=True))
    return path
