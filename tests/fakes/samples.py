"""A small network for the fakes' own tests: plain, and with Q/DQ around chosen convolutions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network(quantized: tuple[str, ...] = (), *, fp8: bool = False, half: bool = False) -> onnx.ModelProto:
    """`x` [batch, 3, 8, 8] to `y` [batch, 10]: stem + relu, left + relu, right + add(skip) + relu, pool, flat, head.

    Args:
        quantized: Convolutions whose data input and weight are quantized.
        fp8: Quantize to E4M3 instead of INT8, which needs opset 19.
        half: The graph is FP16 between a Cast at each end.
    """
    made = _Maker(quantized, fp8=fp8, half=half)
    start = made.node("Cast", "to_half", ["x"], to=TensorProto.FLOAT16) if half else "x"
    made.conv("stem", start, 3, 16)
    made.node("Relu", "stem.relu", ["stem"])
    made.conv("left", "stem.relu", 16, 16)
    made.node("Relu", "left.relu", ["left"])
    made.conv("right", "left.relu", 16, 16)
    made.node("Add", "skip", ["right", "stem.relu"])
    made.node("Relu", "skip.relu", ["skip"])
    made.node("GlobalAveragePool", "pool", ["skip.relu"])
    made.node("Flatten", "flat", ["pool"])
    operands = ["flat", made.weight("head.weight", (16, 10)), made.weight("head.bias", (10,))]
    made.node("Gemm", "head", operands, "head" if half else "y")
    if half:
        made.node("Cast", "to_float", ["head"], "y", to=TensorProto.FLOAT)
    return made.model()


def images(batch: int) -> np.ndarray:
    """Standard normal input of the network."""
    return np.random.default_rng(batch).normal(size=(batch, 3, 8, 8)).astype(np.float32)


class _Maker:
    def __init__(self, quantized: tuple[str, ...], *, fp8: bool, half: bool) -> None:
        self._random = np.random.default_rng(0)
        self._quantized, self._fp8, self._half = quantized, fp8, half
        self._float = np.float16 if half else np.float32
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        values = self._random.normal(0.0, 0.2, shape).astype(self._float)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, name: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output or name], name=name, **attributes))
        return output or name

    def conv(self, name: str, source: str, channels: int, filters: int) -> None:
        weight = self.weight(f"{name}.weight", (filters, channels, 3, 3))
        if name in self._quantized:
            source, weight = self._qdq(source, f"{name}.in", 0.05), self._qdq(weight, f"{name}.weight", 0.01)
        self.node("Conv", name, [source, weight], pads=[1] * 4)

    def _qdq(self, tensor: str, name: str, scale: float) -> str:
        kind = TensorProto.FLOAT8E4M3FN if self._fp8 else TensorProto.INT8
        self.constants.append(numpy_helper.from_array(self._float(scale), f"{name}.scale"))
        self.constants.append(helper.make_tensor(f"{name}.zero", kind, [], [0]))
        parameters = [f"{name}.scale", f"{name}.zero"]
        stored = self.node("QuantizeLinear", f"{name}.q", [tensor, *parameters])
        return self.node("DequantizeLinear", f"{name}.dq", [stored, *parameters])

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "sample",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
            self.constants,
        )
        opset = 19 if self._fp8 or self._half else 17
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        onnx.checker.check_model(made, full_check=True)
        return made
