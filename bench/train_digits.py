"""Train the demo's network: `python bench/train_digits.py` rewrites trt_mpq/_data/digits_resnet.onnx.

A residual network for 8 x 8 digits, trained on the 1,000 training images of `trt_mpq.demo` with shifts
of one pixel as augmentation. BatchNorm stays in the file, so that the demo also folds it.
"""

# ruff: noqa: TID253 - a training script is about torch

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from trt_mpq.demo import MODEL, Digits, load_digits

INPUT = "image"  # as trt_mpq.demo names the array
OPSET = 17
CHANNELS = (16, 16, 32, 48)
EPOCHS = 60
BATCH = 50


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.projects = stride != 1 or channels_in != channels_out
        if self.projects:
            self.project = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.bn3 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.bn3(self.project(x)) if self.projects else x
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


class DigitsResNet(nn.Module):
    """Stem, three blocks, global average, linear classifier: [n, 1, 8, 8] to logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, CHANNELS[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(CHANNELS[0])
        self.blocks = nn.ModuleList(
            Block(a, b, stride) for a, b, stride in zip(CHANNELS[:-1], CHANNELS[1:], (1, 2, 1), strict=True)
        )
        self.fc = nn.Linear(CHANNELS[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean(dim=(2, 3)))


def train(network: DigitsResNet, digits: Digits, epochs: int) -> None:
    images, labels = torch.from_numpy(digits.images), torch.from_numpy(digits.labels)
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = functional.cross_entropy(network(shifted(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def shifted(images: Tensor) -> Tensor:
    """Each image moved by at most one pixel in each direction, zeros moving in."""
    padded = functional.pad(images, (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2, len(images)))
    return torch.stack([p[:, d : d + 8, r : r + 8] for p, d, r in zip(padded, down, right, strict=True)])


@torch.no_grad()
def accuracy(network: DigitsResNet, digits: Digits) -> float:
    network.eval()
    predicted = network(torch.from_numpy(digits.images)).argmax(dim=1).numpy()
    return float((predicted == digits.labels).mean())


class Writer:
    """Appends ONNX nodes that take their weights from torch layers.

    Written by hand, because torch's exporter folds BatchNorm and names nodes differently in every version.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op_type: str, name: str, inputs: list[str], **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, name: str, values: Tensor) -> str:
        self.initializers.append(numpy_helper.from_array(values.detach().numpy(), name))
        return name

    def conv_bn(self, name: str, x: str, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> str:
        weight = self.constant(f"{name}.weight", conv.weight)
        pads = [*conv.padding, *conv.padding]
        x = self.node("Conv", name, [x, weight], kernel_shape=conv.kernel_size, strides=conv.stride, pads=pads)
        parts = {"scale": bn.weight, "shift": bn.bias, "mean": bn.running_mean, "variance": bn.running_var}
        parameters = [self.constant(f"{name}_bn.{part}", values) for part, values in parts.items()]
        return self.node("BatchNormalization", f"{name}_bn", [x, *parameters], epsilon=bn.eps)

    def block(self, name: str, x: str, block: Block) -> str:
        y = self.node("Relu", f"{name}_relu1", [self.conv_bn(f"{name}_conv1", x, block.conv1, block.bn1)])
        y = self.conv_bn(f"{name}_conv2", y, block.conv2, block.bn2)
        shortcut = self.conv_bn(f"{name}_project", x, block.project, block.bn3) if block.projects else x
        return self.node("Relu", f"{name}_relu2", [self.node("Add", f"{name}_add", [y, shortcut])])


def to_onnx(network: DigitsResNet) -> onnx.ModelProto:
    w = Writer()
    x = w.node("Relu", "stem_relu", [w.conv_bn("stem", INPUT, network.conv, network.bn)])
    for i, block in enumerate(network.blocks, start=1):
        x = w.block(f"block{i}", x, block)
    x = w.node("Flatten", "flatten", [w.node("GlobalAveragePool", "pool", [x])])
    w.node(
        "Gemm", "fc", [x, w.constant("fc.weight", network.fc.weight), w.constant("fc.bias", network.fc.bias)], transB=1
    )
    w.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        w.nodes,
        "digits_resnet",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        w.initializers,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=MODEL)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    training, evaluation = load_digits()
    network = DigitsResNet()
    train(network, training, options.epochs)
    parameters = sum(p.numel() for p in network.parameters())
    scores = f"training {accuracy(network, training):.4f}, evaluation {accuracy(network, evaluation):.4f}"
    print(f"{parameters} parameters, accuracy: {scores}")
    onnx.save(to_onnx(network), options.output)


if __name__ == "__main__":
    main()
