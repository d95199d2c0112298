"""What `trt-mpq inspect` takes: CPU seconds and memory for networks of many nodes, and for one of many megabytes.

Seconds per thousand nodes should not grow with the number of nodes. `python -m bench.inspection` prints a line each.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LARGE = (12, 768)
"""Layers and width of a network of 340 MB."""
DEEP = ((150, 16), (600, 16), (910, 16))
"""The same of networks of 5,000, 20,000 and 30,000 nodes."""
TOKENS = 8


class Transformer:
    """Attention and MLPs of random weights, written node by node as exporters of torch do, erf-GELU spelled out."""

    def __init__(self, width: int) -> None:
        self._width, self._heads = width, max(2, width // 64)
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def build(self, layers: int) -> onnx.ModelProto:
        """`x` [batch, TOKENS, width] to `y` of the same shape."""
        heads = self._constant(np.array([0, 0, self._heads, self._width // self._heads]))
        flat = self._constant(np.array([0, 0, self._width]))
        x = "x"
        for _ in range(layers):
            x = self._attention(x, heads, flat)
            x = self._mlp(x)
        self._nodes.append(helper.make_node("Relu", [x], ["y"], name="end"))
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", TOKENS, self._width]) for name in "xy"
        ]
        graph = helper.make_graph(self._nodes, "transformer", values[:1], values[1:], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _attention(self, x: str, heads: str, flat: str) -> str:
        norm = self._norm(x)
        orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        q, k, v = (
            self._node("Transpose", self._node("Reshape", self._linear(norm, self._width), heads), perm=order)
            for order in orders
        )
        scale = self._constant(np.array((self._width / self._heads) ** -0.5, np.float32))
        scores = self._node("Softmax", self._node("Mul", self._node("MatMul", q, k), scale), axis=-1)
        mixed = self._node("Transpose", self._node("MatMul", scores, v), perm=[0, 2, 1, 3])
        return self._node("Add", self._linear(self._node("Reshape", mixed, flat), self._width), x)

    def _mlp(self, x: str) -> str:
        wide = self._linear(self._norm(x), 4 * self._width)
        root, one, half = (self._constant(np.array(number, np.float32)) for number in (2**0.5, 1.0, 0.5))
        gate = self._node("Add", self._node("Erf", self._node("Div", wide, root)), one)
        gelu = self._node("Mul", self._node("Mul", wide, gate), half)
        return self._node("Add", self._linear(gelu, self._width, inputs=4 * self._width), x)

    def _norm(self, x: str) -> str:
        scale, shift = (self._constant(np.full(self._width, number, np.float32)) for number in (1, 0))
        return self._node("LayerNormalization", x, scale, shift)

    def _linear(self, x: str, outputs: int, inputs: int = 0) -> str:
        inputs = inputs or self._width
        weight = self._random.standard_normal((inputs, outputs), dtype=np.float32) / np.float32(inputs**0.5)
        product = self._node("MatMul", x, self._constant(weight))
        return self._node("Add", product, self._constant(np.zeros(outputs, np.float32)))

    def _constant(self, values: NDArray[Any]) -> str:
        self._weights.append(numpy_helper.from_array(values, f"c{len(self._weights)}"))
        return self._weights[-1].name

    def _node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name


def measure(layers: int, width: int) -> str:
    """One line: size of the network and what inspecting it takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model = Transformer(width).build(layers)
        onnx.save(model, path)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "trt_mpq", "inspect", str(path), "-o", str(Path(folder) / "run")]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        nodes, size = len(model.graph.node), path.stat().st_size / 1e6
        per_thousand = 1000 * seconds / nodes
        return f"{nodes:6} nodes {size:6.0f} MB {seconds:6.1f} CPU s {per_thousand:6.2f} CPU s per 1,000 nodes"


def main() -> None:
    """Print a line for every network."""
    for layers, width in (LARGE, *DEEP):
        print(measure(layers, width), flush=True)


if __name__ == "__main__":
    main()
