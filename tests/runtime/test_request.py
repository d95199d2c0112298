"""What a build is asked to do, and the optimization profile that follows from the model, the data and the user."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.artifacts.files import from_json, to_stored_json
from trt_mpq.errors import SettingsError
from trt_mpq.runtime.tensorrt.request import BuildRequest, layers_file, log_file, shape_ranges
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, TensorSpec
from trt_mpq.types.engine import ShapeRange

IMAGE = TensorSpec("input", "float32", ("N", 3, 224, 224))
TEXT = TensorSpec("tokens", "int64", ("N", "length"))
FIXED = TensorSpec("prior", "float32", (1, 8))


def ranges(spec: TensorSpec, *given: str, batch: int = 8) -> ShapeRange | None:
    sample = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    return shape_ranges((spec,), {spec.name: sample}, batch, given).get(spec.name)


def test_a_request_survives_json() -> None:
    request = BuildRequest(
        onnx="run/weak.onnx",
        engine="run/engine/plan.plan",
        typing="weak",
        constraints={"/layer1/conv [0]": Precision.FP32, "fc": Precision.FP16},
        shapes={"input:0": ShapeRange((1, 3), (8, 3), (16, 3))},
        options=EngineOptions(plugins=(Path("a.so"),), timing_cache=Path("cache"), dla_core=1, optimization_level=5),
        timing_cache="cache",
    )
    assert from_json(to_stored_json(request, BuildRequest), BuildRequest) == request


@pytest.mark.parametrize(
    ("typing", "precision", "message"),
    [("strong", Precision.FP16, "takes no precision constraints"), ("weak", Precision.INT8, "only FP16 and FP32")],
)
def test_constraints_that_no_builder_could_keep_are_a_defect(typing: str, precision: Precision, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BuildRequest(
            onnx="a.onnx",
            engine="a.plan",
            typing=typing,  # type: ignore[arg-type]
            constraints={"conv": precision},
            options=EngineOptions(),
            timing_cache="",
        )


def test_int8_is_a_constraint_where_the_builder_is_told_layer_by_layer() -> None:
    request = BuildRequest(
        onnx="a.onnx", engine="a.plan", typing="weak", constraints={"conv": Precision.INT8}, timing_cache="",
        options=EngineOptions(through="builder-api"),
    )  # fmt: skip
    assert from_json(to_stored_json(request, BuildRequest), BuildRequest) == request


def test_files_lie_beside_the_engine_under_its_whole_name() -> None:
    assert layers_file(Path("engine/int8.fp16.plan")) == Path("engine/int8.fp16.layers.json")
    assert log_file(Path("engine/int8.fp16.plan")) == Path("engine/int8.fp16.log")


def test_by_default_the_batch_goes_from_one_to_that_of_the_run() -> None:
    assert ranges(IMAGE, batch=32) == ShapeRange((1, 3, 224, 224), (32, 3, 224, 224), (32, 3, 224, 224))


def test_other_dynamic_dimensions_are_as_in_the_data() -> None:
    found = shape_ranges((TEXT, FIXED), {"tokens": (1, 128), "prior": (1, 8)}, 4, ())
    assert found == {"tokens": ShapeRange((1, 128), (4, 128), (4, 128))}


def test_a_fixed_batch_with_another_dynamic_dimension() -> None:
    spec = TensorSpec("audio", "float32", (2, "time"))
    assert shape_ranges((spec,), {"audio": (2, 100)}, 2, ()) == {"audio": ShapeRange((2, 100), (2, 100), (2, 100))}


def test_what_the_user_gives_replaces_the_default_of_that_input_only() -> None:
    found = shape_ranges((IMAGE, TEXT), {"input": (1, 3, 224, 224), "tokens": (1, 16)}, 8, ("tokens=1x4:8x64:16x256",))
    assert found["tokens"] == ShapeRange((1, 4), (8, 64), (16, 256))
    assert found["input"].optimum == (8, 3, 224, 224)


@pytest.mark.parametrize("name", ["input:0", "a=b", "a=b:c=", "x[0]", "=", ":", "1x3=1x3:1x3"])
def test_names_may_hold_the_separators(name: str) -> None:
    spec = TensorSpec(name, "float32", ("N", 3))
    assert ranges(spec, f"{name}=1x3:8x3:16x3") == ShapeRange((1, 3), (8, 3), (16, 3))


@given(
    name=st.text(min_size=1),
    sizes=st.lists(st.tuples(*[st.integers(1, 10**6)] * 3).map(sorted), min_size=1, max_size=5),
)
def test_a_range_is_read_as_it_was_written(name: str, sizes: list[list[int]]) -> None:
    spec = TensorSpec(name, "float32", tuple(f"d{axis}" for axis in range(len(sizes))))
    minimum, optimum, maximum = zip(*sizes, strict=True)
    text = f"{name}=" + ":".join("x".join(map(str, shape)) for shape in (minimum, optimum, maximum))
    assert ranges(spec, text, batch=optimum[0]) == ShapeRange(minimum, optimum, maximum)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input", "is not NAME=MIN:OPT:MAX"),
        ("input=1x3x224x224", "is not NAME=MIN:OPT:MAX"),
        ("=1x3x224x224:1x3x224x224:8x3x224x224", "is not NAME=MIN:OPT:MAX"),
        ("input=1x3x224x224:8x3x224x224:8x3x224x-1", "is not NAME=MIN:OPT:MAX"),
        ("input=0x3x224x224:8x3x224x224:8x3x224x224", "is not NAME=MIN:OPT:MAX"),
        ("input=1×3:1×3:1×3", "is not NAME=MIN:OPT:MAX"),  # noqa: RUF001 a multiplication sign is what people paste
        ("input=1x3x224x224:8x3x224x224:²x3x224x224", "is not NAME=MIN:OPT:MAX"),
        ("image=1x3x224x224:8x3x224x224:8x3x224x224", "no input 'image', its inputs are input"),
        ("input=1x3:8x3:8x3", "must have its 4 dimensions, Nx3x224x224"),
        ("input=1x3x224x224:8x3x224:8x3x224x224", "must have its 4 dimensions, Nx3x224x224"),
        ("input=1x1x224x224:8x3x224x224:8x3x224x224", "contradict the model, which fixes Nx3x224x224"),
        ("input=9x3x224x224:8x3x224x224:16x3x224x224", "must grow from minimum over optimum to maximum"),
        ("input=1x3x224x224:17x3x224x224:16x3x224x224", "must grow from minimum over optimum to maximum"),
        ("input=1x3x224x224:4x3x224x224:4x3x224x224", "leave out the batch of this run, 8"),
        ("input=16x3x224x224:16x3x224x224:16x3x224x224", "leave out the batch of this run, 8"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ranges(IMAGE, text)


def test_a_range_given_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="twice for input 'input'"):
        ranges(IMAGE, "input=1x3x224x224:8x3x224x224:8x3x224x224", "input=1x3x224x224:8x3x224x224:9x3x224x224")


def test_a_range_for_an_input_of_fixed_shape_must_be_that_shape_and_is_then_no_profile() -> None:
    assert ranges(FIXED, "prior=1x8:1x8:1x8") is None
    with pytest.raises(SettingsError, match="which fixes 1x8"):
        ranges(FIXED, "prior=1x8:2x8:2x8")
