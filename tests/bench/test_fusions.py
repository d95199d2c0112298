"""The reader of compiled programs, and what it says of groups, on networks small enough to know."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from bench import fusions, realised
from bench.observed import Comparison, Share, Subject, compare
from bench.program import Kernel, program
from tests.compiler import NEEDS_RTX
from tests.networks import residual_cnn
from trt_mpq.types import Precision, PrecisionPlan

INT8, FP8, FP16 = Precision.INT8, Precision.FP8, Precision.FP16
TEXT = """header {
  accelerators={sm89 }
}
descriptors {
  tensor={ dims={ 4 8 } name="x.1" type=half }
  tensor={ dims={ 4 8 } name="codes.1" type=int8 }
  sub_tensor={ base="codes.1" dims={ 4 2 4 } name="view" type=int8 }
  tensor={ dims={ 8 8 } name="weight" type=int8 }
  tensor={ dims={ 4 8 } name="y.1" type=half }
}
main {
 label bb1:
  function={ name=__myl_MulRoun input_args={ "x.1" } output_args={ "codes.1" } grid = { 1 } layers="[ONNX Layer: q]" }
  signal={ name="__mye1" stream=0 }
  runtime_fusion={ name=__myl_FcAdd input_args={ "view" "weight" } output_args={ "y.1" } binary=0
    layers="[ONNX Layer: dot]\x1e[ONNX Layer: a {b]" }
}
header {
  accelerators={*}
}
descriptors {
  tensor={ dims={ 4 8 } name="view" type=int8 }
  tensor={ dims={ 8 8 } name="weight" type=int8 }
  tensor={ dims={ 4 8 } name="y.1" type=half }
}
main {
 label bb1:
  fully_connected={ name="dot" output={"y.1" } input={"view" "weight" } trA=false layers="[ONNX Layer: dot]" }
}
"""


def test_a_program_is_its_kernels_with_their_types_and_nodes() -> None:
    quantize, fused = program(b"\x00\xffengine" + TEXT.encode() + b"\x00\xff")
    assert quantize == Kernel("function", "MulRoun", ("q",), ("half",), ("int8",), ("x.1", "codes.1"))
    assert fused.nodes == ("dot", "a {b")
    assert fused.product is not None
    assert (fused.product.kind, fused.operands, fused.in_eight_bit) == ("fully_connected", ("int8", "int8"), True)


def test_masks_are_no_operands_of_an_attention() -> None:
    kernel = Kernel("function", "_gemm_mha_v2", ("pv",), ("bool", "bool", "half", "half", "half"), ("half",))
    assert kernel.operands == ("half", "half")


def test_what_holds_no_program_is_refused() -> None:
    with pytest.raises(ValueError, match="no program text"):
        program(b"engine")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    path: Path = tmp_path_factory.mktemp("network") / "network.onnx"
    onnx.save(residual_cnn(), path)
    return Subject("residual", path, {"input": (1, 3, 16, 16)})


def compared(subject: Subject, plan: PrecisionPlan, planned: PrecisionPlan | None = None) -> Comparison:
    """The program of `plan` as if `planned` had been asked for."""
    graph = subject.emitted(plan)
    engine = subject.compiled({"it": graph})["it"].engine
    assert engine is not None
    return compare(subject.grouping, planned or plan, graph, program(engine))


@NEEDS_RTX
def test_every_group_is_one_product_in_its_format(subject: Subject) -> None:
    groups = [group.id for group in subject.grouping.groups]
    mixed = PrecisionPlan.of({name: (INT8, FP8, FP16)[index % 3] for index, name in enumerate(groups)})
    found = compared(subject, mixed)
    assert found.anchors == found.precision == Share(len(groups), len(groups))
    assert found.epilogues.count == found.epilogues.total > 0
    assert found.differences == ()


@NEEDS_RTX
def test_a_group_in_another_format_than_planned_is_named(subject: Subject) -> None:
    first, *_ = (group.id for group in subject.grouping.groups)
    half = subject.grouping.uniform(FP16)
    found = compared(subject, half, PrecisionPlan.of({**half.as_dict(), first: INT8}))
    assert found.precision.count == found.precision.total - 1
    assert found.differences == (f"Conv {first}: planned int8, multiplies half x half",)


@NEEDS_RTX
def test_the_tables_say_what_was_compiled(subject: Subject) -> None:
    found = {subject.name: dict(fusions.observed(subject))}
    rows = [line for line in fusions.table(found, "1.0").splitlines() if line.startswith("| residual |")]
    assert [row.split(" | ")[1] for row in rows] == ["fp16", "int8", "fp8"]


def test_formats_alternate_along_the_network(subject: Subject) -> None:
    mixed = realised.plan_of(subject, (INT8, FP8))
    assert [precision for _, precision in mixed.assignments][:4] == [INT8, FP8, INT8, FP8]


def test_a_refusal_is_right_where_the_gpu_lacks_the_format() -> None:
    rows = {"net": {"FP8": {75: "refused by the compiler", 89: Share(3, 4), 120: "refused by the compiler"}}}
    text = realised.table(rows, "1.0")
    assert "| net | FP8 | lacks it | 3 / 4 | refused by the compiler |" in text
    assert "**3 of 4 groups (75.00%) in 1 engines run as planned from 8.0 on**, 3 of 4 groups" in text
