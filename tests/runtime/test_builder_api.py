"""Both ways of a plan into TensorRT, by NVIDIA's own parser and compiler: the same networks, and engines alike."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.compiler import NEEDS_RTX, compiled
from tests.emit import test_blocks as blocks
from tests.emit.examples import emitter, prepared
from tests.prepared import RUNTIME, Prepared, prepare
from tests.runtime.recorded_tensorrt import recorded
from trt_mpq.calibrate.ranges import calibrate
from trt_mpq.dataset import samples_from_arrays
from trt_mpq.emit import Emitter
from trt_mpq.graph.quantizers import HighPrecision, Quantizer, without_quantizers
from trt_mpq.model import save_graph
from trt_mpq.runtime.tensorrt.builder_api import add_quantizers
from trt_mpq.runtime.tensorrt.flavour import using
from trt_mpq.runtime.tensorrt.logger import BuildLog
from trt_mpq.runtime.tensorrt.network import parse_network
from trt_mpq.runtime.tensorrt.refusal import BuildError
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan, Ranges, TensorSpec
from trt_mpq.types.engine import ShapeRange

FP16, BF16, FP8, INT8 = Precision.FP16, Precision.BF16, Precision.FP8, Precision.INT8
NETWORKS = ("crossroads", "decoder", "bert", "conv_attention", "mixing")


def plan_of(network: Prepared, *precisions: Precision) -> PrecisionPlan:
    """The groups take turns in `precisions`."""
    turns = zip(network.grouping.groups, cycle(precisions))
    return PrecisionPlan(tuple((group.id, group.widest(precision, FP16)) for group, precision in turns))


def request(path: Path, **options: object) -> BuildRequest:
    return BuildRequest(
        onnx=str(path), engine=str(path.with_suffix(".plan")), typing="strong", timing_cache="", flavour="rtx",
        capabilities=(89,), options=EngineOptions.model_validate(options),
    )  # fmt: skip


def description(path: Path, through: str) -> dict[str, str]:
    """Network output to a digest of everything that it is computed by: layers, types, parameters, constants."""
    with using("rtx"):
        import tensorrt_rtx_bindings as trt

        log = BuildLog(path.with_suffix(".log"))
        logger = log.for_tensorrt()
        builder = trt.Builder(logger)
        network, parser, arrays = parse_network(request(path, through=through), builder, logger)
        described = _Described(trt, network)
        found = {tensor.name: described.of(tensor) for tensor in described.outputs()}
        del network, parser, arrays, builder
    return found


class _Described:
    """Digests of the tensors of a network, made from those of what they are computed from."""

    def __init__(self, trt: Any, network: Any) -> None:
        self._trt, self._network, self._known = trt, network, dict[str, str]()
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        self._written = {layer.get_output(i).name: (layer, i) for layer in layers for i in range(layer.num_outputs)}

    def outputs(self) -> Iterator[Any]:
        return (self._network.get_output(index) for index in range(self._network.num_outputs))

    def of(self, tensor: Any) -> str:
        waiting = [tensor]
        while waiting:
            missing = [own for own in self._inputs(waiting[-1]) if own.name not in self._known]
            waiting.extend(missing)
            if not missing:
                done = waiting.pop()
                self._known[done.name] = self._digest(done)
        return self._known[tensor.name]

    def _inputs(self, tensor: Any) -> list[Any]:
        if tensor.name not in self._written:
            return []
        layer, _ = self._written[tensor.name]
        # The parser adds a zero point to INT8 quantizers, which is 0 without one.
        count = 2 if layer.type in (self._trt.LayerType.QUANTIZE, self._trt.LayerType.DEQUANTIZE) else layer.num_inputs
        return [layer.get_input(index) for index in range(count) if layer.get_input(index) is not None]

    def _digest(self, tensor: Any) -> str:
        known = [self._known[own.name] for own in self._inputs(tensor)]
        said = (str(tensor.dtype), tuple(tensor.shape), known, self._made_by(tensor))
        return sha256(repr(said).encode()).hexdigest()

    def _made_by(self, tensor: Any) -> tuple[Any, ...]:
        if tensor.name not in self._written:
            return ("input", tensor.name)
        layer, index = self._written[tensor.name]
        kind = str(layer.type).rpartition(".")[2]
        return (kind, index, *self._parameters(layer, kind))

    def _parameters(self, layer: Any, kind: str) -> Iterator[Any]:
        trt = self._trt
        own = {
            "QUANTIZE": (trt.IQuantizeLayer, ("axis", "to_type")),
            "DEQUANTIZE": (trt.IDequantizeLayer, ("axis", "to_type")),
            "CAST": (trt.ICastLayer, ("to_type",)),
            "CONSTANT": (trt.IConstantLayer, ("weights",)),
            "MATRIX_MULTIPLY": (trt.IMatrixMultiplyLayer, ("op0", "op1")),
            "CONVOLUTION": (trt.IConvolutionLayer, _OF_CONVOLUTIONS),
            "DECONVOLUTION": (trt.IDeconvolutionLayer, _OF_CONVOLUTIONS),
        }
        layer.__class__, names = own.get(kind, (trt.ILayer, ()))
        yield from (_text(getattr(layer, name)) for name in names)


_OF_CONVOLUTIONS = (
    "num_output_maps", "kernel_size_nd", "stride_nd", "dilation_nd", "pre_padding", "post_padding", "padding_mode",
    "num_groups", "bias",
)  # fmt: skip


def _text(value: Any) -> str:
    """Numbers of FP8 and BF16, which numpy does not know, are left out: their number and type is there."""
    if isinstance(value, np.ndarray):
        return sha256(value.tobytes()).hexdigest()
    return f"{value.dtype} {value.size}" if hasattr(value, "nbytes") else str(value)


def small(name: str, folder: Path, *precisions: Precision) -> Path:
    """The typed file of a small network whose groups take turns in `precisions`."""
    save_graph(emitter(name).strong(plan_of(prepared(name), *precisions)), folder / "typed.onnx")
    return folder / "typed.onnx"


REAL = {
    "resnet20": "cifar10/resnet20.onnx",
    "mobilenet": "imagenet/mobilenet_v1_075_224.onnx",
    "minilm": "minilm/minilm_l6_v2.onnx",
}


@cache
def real_network(path: Path) -> tuple[Prepared, Ranges]:
    """A real model, and ranges of a few samples: how good they are does not matter here."""
    network = prepare(onnx.load(path))
    samples = samples_from_arrays(some_samples(network.model.inputs, 2), network.model.inputs, None)
    (ranges,) = calibrate(
        network.graph, network.grouping, samples, RUNTIME, methods=("minmax",), formats=(INT8, FP8), batch=2
    )
    return network, ranges


def some_samples(inputs: tuple[TensorSpec, ...], count: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {
        spec.name: (count, *(size if isinstance(size, int) else 16 for size in spec.shape[1:])) for spec in inputs
    }
    return {
        spec.name: generator.normal(size=shapes[spec.name]).astype(np.float32)
        if spec.dtype == "float32"
        else generator.integers(0, 2, shapes[spec.name])
        for spec in inputs
    }


def real(name: str, data_dir: Path, folder: Path, *precisions: Precision, top: Precision = FP16) -> Path:
    """The typed file of a real model whose groups take turns in `precisions`, with `top` between them."""
    network, ranges = real_network(data_dir / REAL[name])
    grouping = replace(network.grouping, top=top, refuge=Precision.FP32)
    turns = zip(grouping.groups, cycle(precisions))
    plan = PrecisionPlan(tuple((group.id, group.widest(precision, top)) for group, precision in turns))
    save_graph(Emitter(network.graph, grouping, ranges).strong(plan), folder / "typed.onnx")
    return folder / "typed.onnx"


@NEEDS_RTX
@pytest.mark.parametrize("precisions", [(INT8,), (FP8,), (INT8, FP8, FP16)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_both_ways_give_the_same_network(name: str, precisions: tuple[Precision, ...], tmp_path: Path) -> None:
    typed = small(name, tmp_path, *precisions)
    parsed = description(typed, "onnx")
    assert description(typed, "builder-api") == parsed
    assert description(small(name, tmp_path, FP16), "onnx") != parsed


@NEEDS_RTX
@pytest.mark.parametrize("precision", [Precision.W8A16, Precision.W4A16, Precision.NVFP4])
@pytest.mark.parametrize("top", [FP16, BF16])
def test_both_ways_give_the_same_network_of_formats_with_blocks(
    precision: Precision, top: Precision, tmp_path: Path
) -> None:
    found, plain = blocks.network()
    grouping, typed = replace(found.grouping, top=top), tmp_path / "typed.onnx"
    save_graph(Emitter(found.graph, grouping, plain._ranges).strong(grouping.uniform(precision)), typed)
    parsed = description(typed, "onnx")
    assert description(typed, "builder-api") == parsed
    shape = {"input": ShapeRange((1, 128), (4, 128), (4, 128))}
    one, other = (compiled(typed, 120, shapes=shape, through=way) for way in ("onnx", "builder-api"))
    assert (one.reason, other.reason) == ("", "")
    assert one.size_bytes == pytest.approx(other.size_bytes, abs=64)


@NEEDS_RTX
@pytest.mark.parametrize("name", ["crossroads", "bert"])
def test_weights_that_are_quantized_on_the_way_are_constants_with_quantizers(name: str, tmp_path: Path) -> None:
    """As in the weakly typed flavour, which TensorRT for RTX parses, strongly typed, too."""
    weak = tmp_path / "weak.onnx"
    save_graph(emitter(name).weak(plan_of(prepared(name), INT8, FP16)), weak)
    assert description(weak, "builder-api") == description(weak, "onnx")


@NEEDS_RTX
@pytest.mark.parametrize(
    ("precisions", "top"),
    [((INT8,), FP16), ((FP8,), FP16), ((INT8, FP8, FP16), FP16), ((INT8, BF16), BF16), ((FP8, BF16), BF16)],
    ids=str,
)
@pytest.mark.parametrize("name", REAL)
def test_both_ways_give_the_same_network_of_real_models(
    name: str, precisions: tuple[Precision, ...], top: Precision, data_dir: Path, tmp_path: Path
) -> None:
    typed = real(name, data_dir, tmp_path, *precisions, top=top)
    assert description(typed, "builder-api") == description(typed, "onnx")


@NEEDS_RTX
@pytest.mark.parametrize("name", REAL)
def test_both_ways_are_compiled_alike(name: str, data_dir: Path, tmp_path: Path) -> None:
    typed = real(name, data_dir, tmp_path, INT8, FP8, FP16)
    inputs = real_network(data_dir / REAL[name])[0].model.inputs
    shape = {spec.name: tuple(size if isinstance(size, int) else 16 for size in spec.shape) for spec in inputs}
    shapes = {name: ShapeRange(own, own, own) for name, own in shape.items()}
    one, other = (compiled(typed, 89, shapes=shapes, through=way) for way in ("onnx", "builder-api"))
    assert (one.reason, other.reason) == ("", "")
    assert one.size_bytes == pytest.approx(other.size_bytes, abs=64)


@NEEDS_RTX
def test_a_quantizer_that_the_builder_api_cannot_add_ends_in_one_sentence(tmp_path: Path) -> None:
    typed = small("crossroads", tmp_path, INT8)
    proto = onnx.load(typed)
    zero = next(tensor for tensor in proto.graph.initializer if tensor.name == "int8_zero")
    zero.CopyFrom(onnx.numpy_helper.from_array(np.int8(3), zero.name))
    onnx.save(proto, typed)
    with pytest.raises(BuildError, match=r"through the builder API: .*zero point other than 0: take --through onnx$"):
        description(typed, "builder-api")


@pytest.mark.parametrize("precision", [INT8, FP8])
@pytest.mark.parametrize("name", ["crossroads", "bert"])
def test_without_quantizers_is_the_network_of_dequantized_weights(name: str, precision: Precision) -> None:
    """What is left computes in high precision, and the quantizers that were taken out hold scales, codes and places."""
    quantized = emitter(name).strong(plan_of(prepared(name), precision))
    high = without_quantizers(quantized)
    kinds = {node.op_type for node in high.graph.graph}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
    written = {node.outputs[0].name: node for node in quantized.graph if node.op_type == "DequantizeLinear"}
    assert {q.dequantized for q in high.quantizers} == set(written)
    nodes = {node.name: node for node in quantized.graph}
    for quantizer in high.quantizers:
        node = written[quantizer.dequantized]
        assert [nodes[name].inputs[index] for name, index in quantizer.reads] == [node.outputs[0]] * len(
            quantizer.reads
        )
        np.testing.assert_array_equal(quantizer.scale, node.inputs[1].const_value.numpy())
        left = {user.name: user for user in high.graph.graph}
        for name, index in quantizer.reads:
            assert left[name].inputs[index].name == quantizer.tensor
        if quantizer.stored:
            stored = high.graph.graph.initializers[quantizer.tensor].const_value.numpy().astype(np.float32)
            codes, axis = node.inputs[0].const_value.numpy().astype(np.float32), node.attributes.get_int("axis", 1)
            scale = quantizer.scale.astype(np.float32)
            scale = scale.reshape([-1 if at == axis else 1 for at in range(codes.ndim)]) if scale.ndim else scale
            np.testing.assert_allclose(stored, codes * scale, rtol=2**-10, atol=2**-24)
    onnx.checker.check_model(ir.to_proto(high.graph), full_check=True)


class _Node:
    """A tensor, or a layer of a network that notes what is added to it."""

    def __init__(self, name: str, kind: int = -1, inputs: tuple[_Node, ...] = ()) -> None:
        self.name, self.type, self.metadata, self.axis = name, kind, "", None
        self.inputs, self.num_outputs = list(inputs), int(kind >= 0)
        self.output = _Node(f"{name}:0") if kind >= 0 else None

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> _Node:
        return self.inputs[index]

    def get_output(self, index: int) -> _Node:
        assert self.output is not None
        return self.output

    def set_input(self, index: int, tensor: _Node) -> None:
        self.inputs[index] = tensor


@pytest.mark.parametrize(("version", "types"), [("8.6", []), ("10.16", ["INT8", "FLOAT"]), ("11.4", ["INT8", "FLOAT"])])
def test_quantizers_are_added_as_every_version_wants_them(
    version: str, types: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """8.6 takes no types; the product of a quantized and an untouched tensor reads one anew."""
    trt = recorded(version)
    trt.Weights = lambda *given: given
    monkeypatch.setitem(sys.modules, "tensorrt", trt)  # type: ignore[arg-type]
    x, y = _Node("x"), _Node("y")
    product = _Node("product", trt.LayerType.MATRIX_MULTIPLY, (x, y))
    added: list[tuple[str, tuple[Any, ...]]] = []

    def adding(kind: str) -> Any:
        def add(*given: Any) -> _Node:
            added.append((kind, given))
            return _Node(f"{kind}-{len(added)}", 0)

        return add

    network: Any = SimpleNamespace(
        num_layers=1, get_layer=lambda index: product, num_inputs=2, get_input=[x, y].__getitem__, num_outputs=1,
        get_output=lambda index: product.output, add_constant=adding("constant"), add_quantize=adding("quantize"),
        add_dequantize=adding("dequantize"),
    )  # fmt: skip
    scale = np.float32(0.5)
    quantizer = Quantizer(
        "x",
        "x_q",
        "x_dq",
        (("product", 0),),
        ir.DataType.INT8,
        "x_scale",
        np.asarray(scale),
        1,
        ir.DataType.FLOAT,
        None,
    )
    graph = ir.Model(
        ir.Graph([], [], nodes=[ir.node("MatMul", [], name="product")], opset_imports={"": 17}), ir_version=8
    )
    (array,) = add_quantizers(network, HighPrecision(graph, (quantizer,)))
    assert array == scale
    assert [kind for kind, _ in added] == ["constant", "quantize", "dequantize"]
    names = {value: name for name, value in vars(trt.DataType).items()}
    assert [names[given[2]] for _, given in added[1:] if len(given) > 2] == types
    assert [tensor.name for tensor in product.inputs] == ["x_dq", "y"]
