"""Which layers of a weakly typed network are constrained, and which precisions the builder may use."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from tests.runtime.recorded_tensorrt import recorded
from trt_mpq.runtime.tensorrt.constraints import constrain
from trt_mpq.types import Precision

FP16, FP32 = Precision.FP16, Precision.FP32


@dataclass
class Tensor:
    """A network tensor of a type called `kind`."""

    kind: str = "FLOAT"
    is_execution_tensor: bool = True

    @property
    def dtype(self) -> int:
        return int(getattr(sys.modules["tensorrt"].DataType, self.kind))


@dataclass
class Layer:
    """A network layer that notes what it is told; `operation` is the name of its type."""

    name: str
    operation: str = "CONVOLUTION"
    outputs: tuple[Tensor | None, ...] = (Tensor(),)
    inputs: tuple[Tensor, ...] = (Tensor(),)
    metadata: str = ""
    precision: int | None = None
    output_types: dict[int, int] = field(default_factory=dict)

    @property
    def type(self) -> int:
        return int(getattr(sys.modules["tensorrt"].LayerType, self.operation))

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_output(self, index: int) -> Tensor | None:
        return self.outputs[index]

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def set_output_type(self, index: int, dtype: int) -> None:
        self.output_types[index] = dtype

    @property
    def told(self) -> tuple[str | None, dict[int, str]]:
        """Precision and output types by name."""
        names = {value: name for name, value in vars(sys.modules["tensorrt"].DataType).items()}
        types = {index: names[dtype] for index, dtype in self.output_types.items()}
        return (None if self.precision is None else names[self.precision]), types


@pytest.fixture(params=["8.6", "10.16"], autouse=True)
def _tensorrt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", recorded(request.param))  # type: ignore[arg-type]


def constrained(*layers: Layer, **constraints: Precision) -> tuple[set[str], tuple[str, ...]]:
    """Names of the flags that were set, and the notes."""
    flags: list[int] = []
    network: Any = SimpleNamespace(num_layers=len(layers), get_layer=lambda index: layers[index])
    config: Any = SimpleNamespace(set_flag=flags.append)
    notes = constrain(network, config, constraints)
    names = {value: name for name, value in vars(sys.modules["tensorrt"].BuilderFlag).items()}
    return {names[flag] for flag in flags}, notes


def test_named_layers_get_their_precision_and_the_others_are_left_alone() -> None:
    half, full, free = Layer("a"), Layer("b", "ELEMENTWISE"), Layer("c")
    _, notes = constrained(half, full, free, a=FP16, b=FP32)
    assert half.told == ("HALF", {0: "HALF"})
    assert full.told == ("FLOAT", {0: "FLOAT"})
    assert free.told == (None, {})
    assert notes == ()


@pytest.mark.parametrize("operation", ["CONSTANT", "SHAPE", "SHUFFLE", "IDENTITY", "CAST", "QUANTIZE", "DEQUANTIZE"])
def test_layers_that_compute_nothing_are_found_but_not_constrained(operation: str) -> None:
    layer = Layer("a", operation)
    _, notes = constrained(layer, a=FP16)
    assert layer.told == (None, {})
    assert notes == ()


@pytest.mark.parametrize(
    "tensor", [Tensor("INT32"), Tensor("BOOL"), Tensor("INT8"), Tensor(is_execution_tensor=False), None]
)
def test_shape_tensors_and_integers_are_not_constrained(tensor: Tensor | None) -> None:
    layer = Layer("a", "ELEMENTWISE", outputs=(tensor,))
    _, notes = constrained(layer, a=FP32)
    assert layer.told == (None, {})
    assert notes == ()


def test_of_several_outputs_only_the_floating_ones_get_a_type() -> None:
    layer = Layer("top", "TOPK", outputs=(Tensor(), Tensor("INT32")))
    constrained(layer, top=FP16)
    assert layer.told == ("HALF", {0: "HALF"})


def test_metadata_finds_every_layer_of_a_node() -> None:
    product = Layer("fc", "MATRIX_MULTIPLY", metadata="[ONNX Layer: fc]")
    bias = Layer("fc_7", "ELEMENTWISE", metadata="[ONNX Layer: fc]")
    namesake = Layer("other", "ELEMENTWISE", metadata="[ONNX Layer: fc_7]")
    constrained(product, bias, namesake, fc=FP16)
    assert product.told == bias.told == ("HALF", {0: "HALF"})
    assert namesake.told == (None, {})


def test_a_number_that_the_parser_added_does_not_make_another_nodes_layer() -> None:
    second_of_fc = Layer("fc_7", "ELEMENTWISE", metadata="[ONNX Layer: fc]")
    own = Layer("fc_7_9", "ELEMENTWISE", metadata="[ONNX Layer: fc_7]")
    constrained(second_of_fc, own, fc_7=FP32)
    assert second_of_fc.told == (None, {})
    assert own.told == ("FLOAT", {0: "FLOAT"})


def test_names_may_hold_brackets() -> None:
    layer = Layer("x", metadata="[ONNX Layer: blocks[0]/conv]")
    constrained(layer, **{"blocks[0]/conv": FP16})
    assert layer.told == ("HALF", {0: "HALF"})


def test_what_computes_in_8_bit_may_be_told_so_and_keeps_its_result_floating() -> None:
    layer, flags = Layer("conv"), Layer("q", "QUANTIZE", outputs=(Tensor("INT8"),))
    set_flags, notes = constrained(layer, flags, conv=Precision.INT8)
    assert layer.told == ("INT8", {})
    assert set_flags == {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}
    assert notes == ()


def test_nodes_without_a_layer_are_counted_and_a_few_are_named() -> None:
    constraints = {"here": FP16} | {f"gone{number}": FP32 for number in range(7)}
    _, notes = constrained(Layer("here"), **constraints)
    assert notes == (
        "7 of 8 precision constraints: TensorRT has no layer of that name (gone0, gone1, gone2, gone3, gone4, …)",
    )


def test_constraints_are_always_obeyed_and_half_precision_is_allowed() -> None:
    flags, _ = constrained(Layer("a"), Layer("b"), a=FP16, b=FP32)
    assert flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}


def test_a_network_all_in_fp32_tries_nothing_else() -> None:
    flags, _ = constrained(Layer("a"), Layer("b"), a=FP32, b=FP32)
    assert flags == {"OBEY_PRECISION_CONSTRAINTS"}


@pytest.mark.parametrize(("kind", "flag"), [("INT8", "INT8"), ("FP8", "FP8")])
def test_eight_bit_is_allowed_where_the_network_has_it(kind: str, flag: str) -> None:
    quantize = Layer("q", "QUANTIZE", outputs=(Tensor(kind),))
    weight = Layer("dq", "DEQUANTIZE", inputs=(Tensor(kind),))
    for layer in (quantize, weight):
        flags, _ = constrained(layer, Layer("a"), a=FP32)
        assert flags == {"FP16", flag, "OBEY_PRECISION_CONSTRAINTS"}
    flags, _ = constrained(quantize, weight)
    assert flags == {"FP16", flag, "OBEY_PRECISION_CONSTRAINTS"}
