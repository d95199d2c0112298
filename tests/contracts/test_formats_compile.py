"""NVIDIA's compiler on the formats for matrix products: what it takes, what it refuses, and what it makes of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnx
import pytest

from bench.observed import Subject, computed_in
from bench.program import program
from tests.compiler import NEEDS_RTX
from tests.contracts.test_compiler import outcome
from tests.emit.examples import feeds, prepared
from tests.emit.test_blocks import network, uniform
from tests.networks import Builder
from tests.prepared import RUNTIME, sample_shapes, with_observed
from trt_mpq.calibrate.ranges import calibrate
from trt_mpq.emit import Emitter
from trt_mpq.groups import groups_from_model
from trt_mpq.latency.target import RTX_SM
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import BuildStatus

pytestmark = NEEDS_RTX
FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
W8A16, W4A16, NVFP4 = Precision.W8A16, Precision.W4A16, Precision.NVFP4
FORMATS = (FP8, INT8, W8A16, W4A16, NVFP4)


def able(*formats: Precision) -> tuple[int, ...]:
    """The compute capabilities of TensorRT for RTX that have them all."""
    return tuple(sm for sm in RTX_SM if all(sm >= precision.spec.first_sm for precision in formats))


@cache
def transformer(name: str) -> Emitter:
    """A small transformer, calibrated, whose groups know all formats."""
    found = prepared(name)
    shapes = with_observed(found.graph, sample_shapes(found.model))
    grouping = groups_from_model(found.graph, shapes, "none", formats=FORMATS)
    samples = found.samples(feeds(name)["input"])
    (ranges,) = calibrate(
        found.graph, grouping, samples, RUNTIME, methods=("minmax",), formats=(FP8, INT8, NVFP4), batch=8
    )
    return Emitter(found.graph, grouping, ranges)


@pytest.mark.parametrize("precision", [W8A16, W4A16, NVFP4])
def test_every_gpu_that_has_a_format_gets_an_engine_that_computes_in_it(precision: Precision, tmp_path: Path) -> None:
    plan = uniform(precision)
    built = outcome(network()[1], plan, tmp_path, *able(precision))
    assert (built.status, built.reason) == (BuildStatus.BUILT, "")
    kernels = [kernel for kernel in program((tmp_path / built.engine).read_bytes()) if kernel.product is not None]
    realised = [set(computed_in(kernel)) for kernel in kernels]
    expected = [own for _, own in plan.assignments]
    assert sorted(realised, key=str) == sorted(({own} for own in expected), key=str)


@pytest.mark.parametrize(
    ("precision", "capability", "lacking"), [(NVFP4, 89, "fp4_e2m1"), (NVFP4, 86, "fp4_e2m1"), (W4A16, 75, "int4")]
)
def test_a_gpu_that_lacks_a_format_refuses_it(
    precision: Precision, capability: int, lacking: str, tmp_path: Path
) -> None:
    assert capability not in able(precision)
    refused = outcome(network()[1], uniform(precision), tmp_path, capability)
    assert refused.refused
    assert lacking in refused.reason


@pytest.mark.parametrize(
    ("precision", "capability"),
    [(FP16, 120), (INT8, 120), (FP8, 89), (FP8, 120), (NVFP4, 120), (W8A16, 86), (W8A16, 120)],
)
def test_products_of_one_tensor_are_as_many_kernels_as_the_format_says(
    precision: Precision, capability: int, tmp_path: Path
) -> None:
    """Q, K and V; in NVFP4 their weights have one scale of scales, and their input is quantized once."""
    writer = transformer("bert")
    built = outcome(writer, writer._grouping.uniform(precision), tmp_path, capability)
    joined = [group for group in writer._grouping.groups if len(group.weights) > 1]
    kernels = program((tmp_path / built.engine).read_bytes())
    assert joined
    first = precision.spec.apart_from
    for group in joined:
        anchors = {weight.node for weight in group.weights}
        products = [kernel for kernel in kernels if kernel.product is not None and anchors & set(kernel.nodes)]
        assert len(products) == (len(group.weights) if first is not None and capability >= first else 1)
        assert anchors <= {node for product in products for node in product.nodes}
        assert {found for product in products for found in computed_in(product)} == {precision}


def test_one_kernel_in_front_of_a_product_in_nvfp4_quantizes_and_sorts_scales(tmp_path: Path) -> None:
    """Multiplied as matrices, though the tensor has three axes: else a kernel sorts the scales of each operand."""
    b = Builder(5)
    b.node("MatMul", "product", [b.relu("relu", "input"), b.normal("weight", (128, 256), 0.1)])
    onnx.save(b.model((32, 128), (32, 256)), tmp_path / "net.onnx")
    subject = Subject("product", tmp_path / "net.onnx", {"input": (1, 32, 128)})
    typed = subject.emitted(subject.grouping.uniform(NVFP4))
    engine = subject.compiled({"typed": typed}, 120)["typed"].engine
    assert engine is not None
    (sorting,) = [kernel for kernel in program(engine) if "fp8_e4m3" in kernel.writes]
    assert sorting.writes == ("fp4_e2m1", "fp8_e4m3")


@pytest.mark.parametrize("name", ["bert", "gpt", "vit", "mlp"])
@pytest.mark.parametrize("formats", [(FP8, NVFP4), (INT8, W4A16), (W8A16, FP16), (W4A16, W8A16)])
def test_formats_in_turns_share_one_network(name: str, formats: tuple[Precision, ...], tmp_path: Path) -> None:
    writer = transformer(name)
    plans = [writer._grouping.uniform(precision).as_dict() for precision in formats]
    plan = PrecisionPlan.of({group: plans[turn % 2][group] for turn, group in enumerate(plans[0])})
    built = outcome(writer, plan, tmp_path, *able(*formats))
    assert (built.status, built.reason) == (BuildStatus.BUILT, "")
