"""Engines that are loaded, run and timed, with a fake TensorRT of every version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.fixtures import PretendGpu, pretend_gpu, trt_version  # noqa: F401 - fixtures
from tests.networks import mlp, sample_input
from tests.runtime.plans import plan_file
from trt_mpq.engine.profile.side_by_side import time_side_by_side
from trt_mpq.errors import DataError, RuntimeFailure
from trt_mpq.runtime import cuda, nvml
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.runtime.tensorrt.engine import LoadedEngine
from trt_mpq.runtime.tensorrt.layer_times import _median_times, profile_layers
from trt_mpq.runtime.tensorrt.slot import fit
from trt_mpq.runtime.tensorrt.timer import EngineTimer, engine_timer
from trt_mpq.settings import EngineOptions
from trt_mpq.types import TensorSpec
from trt_mpq.types.engine import LayerTime, ShapeRange

if TYPE_CHECKING:
    import tensorrt as trt

SHAPES = {"input": ShapeRange((2, 32), (8, 32), (16, 32))}


@pytest.fixture
def plan(pretend_gpu: PretendGpu, tmp_path: Path) -> Iterator[Path]:  # noqa: F811
    """An engine of a small network for batches of 2 to 16, on TensorRT 10.16; afterwards the GPU must be empty."""
    pretend_gpu("10.16")
    yield plan_file(tmp_path / "mlp.plan", mlp(), SHAPES)
    from trt_fake import world  # type: ignore[import-not-found]

    assert world.memory().used == 0


def test_an_engine_computes_what_its_network_does(
    pretend_gpu: PretendGpu,  # noqa: F811
    trt_version: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    pretend_gpu(trt_version)
    onnx.save(mlp(), tmp_path / "mlp.onnx")
    feeds = sample_input(mlp(), 5)
    expected = OnnxRuntime(1).load(tmp_path / "mlp.onnx").run(feeds)
    with LoadedEngine(plan_file(tmp_path / "mlp.plan", mlp(), SHAPES)) as engine:
        assert engine.inputs == (TensorSpec("input", "float32", ("batch", 32)),)
        assert engine.outputs == (TensorSpec("output", "float32", ("batch", 16)),)
        assert engine.ranges == SHAPES
        with engine.session() as session:
            assert session.output_names == ("output",)
            np.testing.assert_array_equal(session.run(feeds)["output"], expected["output"])
        with engine_timer(engine, [sample_input(mlp(), 8, seed) for seed in range(3)]) as timer:
            assert timer.graph_refusal is None
            assert len(timer.turn(0.0, 7, cuda_graph=True).iterations) == 7
            names = [layer.name for layer in timer.layer_times(3)]
        with engine.execution() as context:
            assert names == inspected_names(context.engine)
        assert len(names) == 3


def inspected_names(engine: trt.ICudaEngine) -> list[str]:
    """Names of the layers, as the inspector tells them."""
    import tensorrt as trt

    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return [layer["Name"] for layer in json.loads(text)["Layers"]]


def test_batches_of_several_sizes_in_one_session(plan: Path) -> None:
    feeds = sample_input(mlp(), 16)
    with LoadedEngine(plan) as engine, engine.session() as session:
        whole = session.run(feeds)["output"]
        for size in (2, 16, 3, 1):  # one sample is below the engine's smallest batch
            part = session.run({"input": feeds["input"][:size]})["output"]
            np.testing.assert_array_equal(part, whole[:size])
        kept = whole.copy()
        session.run({"input": feeds["input"] + 1})
        np.testing.assert_array_equal(whole, kept)  # outputs are no views of buffers that are used again


def test_a_batch_that_is_too_large_is_refused_and_the_session_goes_on(plan: Path) -> None:
    with LoadedEngine(plan) as engine, engine.session() as session:
        with pytest.raises(
            RuntimeFailure, match="the engine takes input of shape 2x32 to 16x32, not 17x32: use a batch"
        ):
            session.run(sample_input(mlp(), 17))
        assert session.run(sample_input(mlp(), 4))["output"].shape == (4, 16)


def test_feeds_that_do_not_fit_are_refused(plan: Path) -> None:
    with LoadedEngine(plan) as engine, engine.session() as session:
        with pytest.raises(DataError, match="the engine reads input, but the data has only image"):
            session.run({"image": np.zeros((2, 32), np.float32)})
        with pytest.raises(RuntimeFailure, match="of shape 2x32 to 16x32, not 2x33"):
            session.run({"input": np.zeros((2, 33), np.float32)})
        with pytest.raises(RuntimeFailure, match="not 0x32"):
            session.run({"input": np.zeros((0, 32), np.float32)})
        with pytest.raises(RuntimeFailure, match="not 32"):
            session.run({"input": np.zeros(32, np.float32)})


def test_a_network_of_fixed_shape(pretend_gpu: PretendGpu, tmp_path: Path) -> None:  # noqa: F811
    pretend_gpu()
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[4,2] x) => (float[4,2] y) { y = Relu(x) }'
    plan_file(tmp_path / "relu.plan", onnx.parser.parse_model(text), {})
    x = np.array([[-1, 2], [3, -4], [5, 6]], np.float32)
    with LoadedEngine(tmp_path / "relu.plan") as engine, engine.session() as session:
        assert engine.inputs == (TensorSpec("x", "float32", (4, 2)),)
        np.testing.assert_array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
        with pytest.raises(RuntimeFailure, match="of shape 4x2, not 5x2"):
            session.run({"x": np.zeros((5, 2), np.float32)})


def test_a_file_that_is_absent_is_named(plan: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"absent\.plan cannot be read \(No such file"):
        LoadedEngine(plan.parent / "absent.plan")


def test_what_tensorrt_refuses_is_told_with_its_reason(plan: Path, pretend_gpu: PretendGpu) -> None:  # noqa: F811
    (plan.parent / "broken.plan").write_bytes(b"nonsense")
    with pytest.raises(
        RuntimeFailure, match=r"cannot load .*broken.plan \(.*magic.*\): an engine runs on the GPU model"
    ):
        LoadedEngine(plan.parent / "broken.plan")
    content = plan.read_bytes()
    pretend_gpu("11.4")
    plan.write_bytes(content)
    with pytest.raises(RuntimeFailure, match=r"Version tag does not match.*build it again here"):
        LoadedEngine(plan)


def test_what_was_checked_is_loaded_and_not_what_the_file_holds_now(plan: Path) -> None:
    checked = plan.read_bytes()
    plan.write_bytes(b"exchanged")
    with LoadedEngine(plan, content=checked) as engine, engine.session() as session:
        assert session.run(sample_input(mlp(), 2))["output"].shape == (2, 16)


def test_want_of_memory_is_no_want_of_another_engine(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorrt as trt

    def refuse(runtime: trt.Runtime, content: bytes) -> None:
        runtime.logger.log(trt.Logger.ERROR, "Error Code 2: OutOfMemory (Requested size was 7 bytes.)")

    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", refuse)
    with pytest.raises(RuntimeFailure, match=r"\(Error Code 2: OutOfMemory .*\): stop other programs on the GPU"):
        LoadedEngine(plan)


def test_errors_of_another_engine_are_not_told(plan: Path) -> None:
    (plan.parent / "broken.plan").write_bytes(b"nonsense")
    with pytest.raises(RuntimeFailure):
        LoadedEngine(plan.parent / "broken.plan")
    with LoadedEngine(plan) as engine:
        assert engine.complaint() == "it gave no reason"


def test_a_plugin_library_that_is_absent_is_named(plan: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"the plugin library .*libabsent\.so cannot be loaded"):
        LoadedEngine(plan, [plan.parent / "libabsent.so"])


def test_a_closed_engine_is_a_bug(plan: Path) -> None:
    with LoadedEngine(plan) as engine:
        pass
    with pytest.raises(ValueError, match="was closed"), engine.execution():
        pass


def test_a_driver_that_is_too_old_for_tensorrt(
    pretend_gpu: PretendGpu,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_gpu("8.6")
    plan_file(tmp_path / "mlp.plan", mlp(), SHAPES)
    import tensorrt as trt

    def refuse(_: object, logger: trt.ILogger) -> None:
        logger.log(trt.ILogger.WARNING, "CUDA initialization failure with error: 35.")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt.Runtime, "__init__", refuse)
    with pytest.raises(RuntimeFailure, match=r"cannot use a GPU here \(CUDA .* error: 35\.\): check the driver"):
        LoadedEngine(tmp_path / "mlp.plan")


def test_a_full_gpu_while_preparing_to_time(pretend_gpu: PretendGpu, tmp_path: Path) -> None:  # noqa: F811
    pretend_gpu(memory_mib=0)
    plan_file(tmp_path / "mlp.plan", mlp(), SHAPES)
    full = pytest.raises(RuntimeFailure, match=r"out of memory .*use a smaller batch")
    with LoadedEngine(tmp_path / "mlp.plan") as engine, engine.session() as session, full:
        session.run(sample_input(mlp(), 8))


def test_times_are_those_of_the_device(pretend_gpu: PretendGpu, tmp_path: Path) -> None:  # noqa: F811
    """Three kernels of 20 us; enqueueing anything, a kernel, a copy or a graph, takes the host 5 us."""
    pretend_gpu(
        noise=0.0, drift=0.0, pcie_gb_s=0.1, launch_us=20.0, enqueue_us=5.0, gflops=1e6, bandwidth_gb_s=1e6
    )  # fmt: skip
    plan_file(tmp_path / "mlp.plan", mlp(), SHAPES)
    inputs = [sample_input(mlp(), 8, seed) for seed in range(4)]
    with LoadedEngine(tmp_path / "mlp.plan") as engine, engine_timer(engine, inputs) as timer:
        layers = timer.layer_times(2)
        graph = timer.turn(3.0, 1, cuda_graph=True)
        plain = timer.turn(3.0, 1, cuda_graph=False)
    assert [layer.ms for layer in layers] == pytest.approx([0.02] * 3, abs=1e-4)
    for turn, enqueue in ((graph, 0.005), (plain, 0.015)):
        steady = turn.iterations[4:]
        assert np.median([i.enqueue for i in steady]) == pytest.approx(enqueue, abs=2e-4)
        assert np.median([i.gpu_compute for i in steady]) == pytest.approx(0.06, abs=2e-4)
        # The streams of the copies idle, so their events also see that the host takes 5 us to enqueue the copy.
        assert np.median([i.h2d for i in steady]) == pytest.approx(0.005 + 0.002 + 8 * 32 * 4 / 1e5, abs=2e-4)
        assert np.median([i.d2h for i in steady]) == pytest.approx(0.002 + 8 * 16 * 4 / 1e5, abs=2e-4)
        # Copies and enqueueing hide behind the computation of the inference before.
        assert turn.wall_ms / len(turn.iterations) == pytest.approx(0.06, rel=0.05)
        assert turn.wall_ms == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_timed_inferences_compute_every_input_set_in_turn(plan: Path, cuda_graph: bool) -> None:
    inputs = [sample_input(mlp(), 8, seed) for seed in range(6)]
    with LoadedEngine(plan) as engine:
        with engine.session() as session:
            expected = [session.run(feeds)["output"] for feeds in inputs]
        with engine.execution() as context, closing(EngineTimer(engine, context, inputs[:3])) as timer:
            slots = [lane.slot for lane in timer._lanes]
            for slot, feeds in zip(slots, inputs[3:], strict=True):
                slot.fill(feeds)  # the first three sets were computed while the timer got ready
            timer.turn(0.0, 3, cuda_graph=cuda_graph)
            for slot, output in zip(slots, expected[3:], strict=True):
                np.testing.assert_array_equal(slot.outputs()["output"], output)


def test_one_input_set_runs_one_inference_at_a_time(plan: Path) -> None:
    with LoadedEngine(plan) as engine, engine_timer(engine, [sample_input(mlp(), 8)]) as timer:
        turn = timer.turn(0.0, 20, cuda_graph=True)
    alone = np.mean([i.latency for i in turn.iterations])
    assert turn.wall_ms / 20 >= alone


def test_an_engine_that_cannot_be_captured_is_timed_without_a_graph(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda._driver_library(), "cuGraphInstantiateWithFlags", lambda *_: 801)
    with LoadedEngine(plan) as engine, engine_timer(engine, [sample_input(mlp(), 8)] * 2) as timer:
        assert timer.graph_refusal is not None
        assert timer.graph_refusal.startswith("CUDA could not instantiate a CUDA graph")
        assert len(timer.turn(0.0, 3, cuda_graph=False).iterations) == 3
        with pytest.raises(ValueError, match="no CUDA graph"):
            timer.turn(0.0, 1, cuda_graph=True)


def test_engines_side_by_side(plan: Path) -> None:
    inputs = [sample_input(mlp(), 8, seed) for seed in range(4)]
    with LoadedEngine(plan) as one, LoadedEngine(plan) as other, nvml.conditions() as conditions:
        found = time_side_by_side(
            {"plan": one, "fp16": other}, inputs, EngineOptions(rounds=8, round_ms=1.0, warm_up_ms=1.0), batch=8,
            baselines=["fp16"], seed=0, progress=lambda done, total: None, conditions=conditions,
        )  # fmt: skip
    ratio = found.ratio("plan")
    assert ratio is not None
    assert ratio.low <= 1.0 <= ratio.high  # the same engine twice
    assert ratio.value == pytest.approx(1.0, abs=0.02)
    assert found.profiles["plan"].before.temperature_c == 47.0
    assert len(found.profiles["plan"].layers) == 3


@pytest.mark.usefixtures("plan")
def test_the_first_profiled_inference_does_not_count() -> None:
    context, times = SimpleNamespace(profiler=None, enqueue_emits_profile=False), iter([100.0, 1.0, 2.0, 50.0])

    def run() -> None:
        assert context.enqueue_emits_profile
        context.profiler.report_layer_time("conv", next(times))

    assert profile_layers(context, run, iterations=2) == (LayerTime("conv", 1.5),)  # type: ignore[arg-type]
    assert next(times) == 50.0


def test_layers_keep_their_order_and_namesakes_apart() -> None:
    reports = [
        [("conv", 1.0), ("reformat", 0.1), ("conv", 5.0)],
        [("conv", 3.0), ("reformat", 0.3), ("conv", 7.0)],
        [("conv", 2.0), ("reformat", 0.2), ("conv", 6.0)],
    ]
    assert _median_times(reports) == (LayerTime("conv", 2.0), LayerTime("reformat", 0.2), LayerTime("conv", 6.0))


def converted(array: np.ndarray, dtype: str) -> np.ndarray:
    """`array` as the input x of an engine that takes `dtype`."""
    spec, shape = TensorSpec("x", dtype, array.shape), ShapeRange(array.shape, array.shape, array.shape)
    fitted, _ = fit({"x": array}, (spec,), {"x": shape})
    return fitted["x"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_floats_are_rounded_to_the_type_of_the_engine(dtype: str) -> None:
    values = np.array([0.1, -1.5, 3.3, 100.0], np.float32)
    found = converted(values, dtype)
    expected = values.astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize(("dtype", "value"), [("float16", 1e5), ("float8_e4m3fn", 1000.0), ("bfloat16", 3.4e38)])
def test_a_float_that_overflows_is_refused(dtype: str, value: float) -> None:
    values = np.array([0.0, value])
    with pytest.raises(DataError, match=f"the engine's input x is {dtype}, which cannot hold the data's values"):
        converted(values * (1.01 if dtype == "bfloat16" else 1.0), dtype)


def test_infinities_that_were_there_before_stay() -> None:
    values = np.array([np.inf, np.nan, 1.0], np.float32)
    np.testing.assert_array_equal(converted(values, "float16"), values.astype(np.float16))


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20))
def test_integers_keep_their_value_or_are_refused(values: list[int]) -> None:
    array = np.array(values, np.int64)
    if all(-(2**31) <= value < 2**31 for value in values):
        found = converted(array, "int32")
        assert found.dtype == np.int32
        assert found.tolist() == values
    else:
        with pytest.raises(DataError, match="input x is int32, which cannot hold"):
            converted(array, "int32")


@pytest.mark.parametrize(
    ("given_type", "wanted"), [("int64", "float32"), ("float32", "int32"), ("bool", "uint8"), ("uint8", "float16")]
)
def test_kinds_are_not_mixed(given_type: str, wanted: str) -> None:
    with pytest.raises(DataError, match=f"the engine's input x is {wanted}, but the data is {given_type}"):
        converted(np.zeros(2, given_type), wanted)


@given(st.integers(1, 12), st.integers(1, 8), st.integers(8, 12))
def test_small_batches_are_filled_up_with_the_last_sample(given_size: int, least: int, most: int) -> None:
    inputs = (TensorSpec("x", "float32", ("batch", 2)), TensorSpec("scale", "float32", ()))
    ranges = {"x": ShapeRange((least, 2), (least, 2), (most, 2)), "scale": ShapeRange((), (), ())}
    x = np.arange(2 * given_size, dtype=np.float32).reshape(given_size, 2)
    feeds = {"x": x, "scale": np.float32(2.0).reshape(())}
    if given_size > most:
        with pytest.raises(RuntimeFailure, match="the engine takes x of shape"):
            fit(feeds, inputs, ranges)
        return
    fitted, filled = fit(feeds, inputs, ranges)
    assert filled == ((given_size, least) if given_size < least else None)
    np.testing.assert_array_equal(fitted["x"][:given_size], x)
    assert all((row == x[-1]).all() for row in fitted["x"][given_size:])
    assert len(fitted["x"]) == max(given_size, least)
