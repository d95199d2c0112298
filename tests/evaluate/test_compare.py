"""Error figures by hand, and Polygraphy's verdict on good and broken models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.emit.examples import emitter, feeds, prepared, uniform
from tests.networks import mlp
from tests.prepared import RUNTIME, prepare
from trt_mpq.dataset import Samples, samples_from_arrays
from trt_mpq.emit import Emitter
from trt_mpq.errors import ComparisonFailed, RuntimeFailure, SettingsError
from trt_mpq.evaluate.compare import compare_models, require_passed, required_snr_db, sqnr_db
from trt_mpq.model import save_graph
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.polygraphy import COMPARE_FUNCTIONS, differences, have_enough_snr, run_both
from trt_mpq.types import OutputComparison, Precision, PrecisionPlan, TensorSpec

LEAST = {"output": 10.0}
"""Decibels that the one output of a network needs."""

vectors = hnp.arrays(np.int16, 6).map(lambda steps: steps.astype(np.float32) / 256)


class Saying:
    """A session that gives `output`, whatever it is fed."""

    def __init__(self, output: np.ndarray, name: str = "y") -> None:
        self._output, self.output_names = output, (name,)

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        return dict.fromkeys(self.output_names, self._output)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[np.ndarray, np.ndarray], OutputComparison]:
    """How an engine that gives some values compares with a model that gives others."""
    path = tmp_path_factory.mktemp("constant") / "fp32.onnx"
    node = onnx.helper.make_node("Add", ["x", "values"], ["y"], name="constant")

    def compared(reference: np.ndarray, tested: np.ndarray) -> OutputComparison:
        rows = [values.reshape(1, -1) for values in (reference, tested)]
        ends = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", reference.size]) for name in "xy"
        ]
        constants = [onnx.numpy_helper.from_array(rows[0], "values")]
        graph = onnx.helper.make_graph([node], "constant", ends[:1], ends[1:], constants)
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
        spec = TensorSpec("x", "float32", ("n", reference.size))
        data = samples_from_arrays({"x": np.zeros_like(rows[0])}, (spec,), None)
        (output,) = compare_models(path, Saying(rows[1]), data, 1, {"y": 10.0}, limit=1).outputs
        assert output.sqnr_db == sqnr_db(reference, tested)
        return output

    return compared


def test_figures_of_a_small_example(figures) -> None:
    found = figures(np.float32([[3, 4], [0, 0]]), np.float32([[3, 3], [0, 1]]))
    assert found.sqnr_db == pytest.approx(10 * np.log10(25 / 2))
    assert found.cosine == pytest.approx((9 + 12) / (5 * np.sqrt(9 + 9 + 1)))
    assert found.max_abs_error == 1


def test_equal_outputs_have_no_noise(figures) -> None:
    values = np.float32([1, -2, 3])
    found = figures(values, values.copy())
    assert found.sqnr_db is None
    assert found.cosine == pytest.approx(1)
    assert found.max_abs_error == 0


@pytest.mark.parametrize(("tested", "angle"), [([0, 0], 1.0), ([0, 1], 0.0)])
def test_the_angle_to_nothing_is_defined(figures, tested: list[float], angle: float) -> None:
    assert figures(np.zeros(2, np.float32), np.float32(tested)).cosine == angle


@pytest.mark.filterwarnings("ignore::RuntimeWarning:polygraphy")  # it divides by infinity, for statistics of its own
def test_infinite_outputs_give_finite_figures(figures) -> None:
    reference = np.float32([1, 2, -np.inf, np.nan])
    assert sqnr_db(reference, np.float32([1, 2, -np.inf, 5])) is None
    found = figures(reference, np.float32([1, np.inf, 0, 0]))
    numbers = (found.sqnr_db, found.cosine, found.max_abs_error)
    assert np.isfinite(np.array(numbers, dtype=np.float64)).all()
    assert found.max_abs_error == pytest.approx(np.finfo(np.float32).max)


@given(reference=vectors, tested=vectors, factor=st.sampled_from([0.25, 8.0]))
def test_ratios_do_not_depend_on_the_unit(
    figures, reference: np.ndarray, tested: np.ndarray, factor: np.float32
) -> None:
    before, after = figures(reference, tested), figures(reference * np.float32(factor), tested * np.float32(factor))
    assert after.cosine == pytest.approx(before.cosine, abs=1e-9)
    if reference.any():
        assert after.sqnr_db == (None if before.sqnr_db is None else pytest.approx(before.sqnr_db, abs=1e-6))


def samples(name: str, count: int = 10) -> Samples:
    return prepared(name).samples(feeds(name)["input"][:count])


def written(name: str, folder: Path, precision: Precision) -> tuple[Path, Path]:
    """The FP32 and the typed file of a network."""
    save_graph(prepared(name).graph.clone(), folder / "fp32.onnx")
    save_graph(emitter(name).strong(uniform(name, precision)), folder / "typed.onnx")
    return folder / "fp32.onnx", folder / "typed.onnx"


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_a_good_typed_model_passes_in_silence(
    precision: Precision, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fp32, typed = written("crossroads", tmp_path, precision)
    result = compare_models(fp32, typed, samples("crossroads"), 4, {**LEAST, "hub": 10.0}, limit=9)
    assert capfd.readouterr() == ("", "")
    assert result.samples == 9
    assert [output.output for output in result.outputs] == ["output", "hub"]
    for output in result.outputs:
        assert output.passed
        assert output.sqnr_db is not None
        assert output.sqnr_db > 20
        assert output.cosine > 0.99
        assert 0 < output.max_abs_error < 1


def test_figures_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    fp32, typed = written("mlp", tmp_path, Precision.INT8)
    (whole,), (parts,) = (compare_models(fp32, typed, samples("mlp"), batch, LEAST).outputs for batch in (10, 3))
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db, rel=1e-3)
    assert parts.max_abs_error == pytest.approx(whole.max_abs_error, rel=1e-3)


def test_a_model_is_bit_equal_to_itself(tmp_path: Path) -> None:
    fp32, _ = written("mlp", tmp_path, Precision.INT8)
    (output,) = compare_models(fp32, fp32, samples("mlp"), 4, LEAST).outputs
    assert output == OutputComparison("output", None, pytest.approx(1.0), 0.0, 10.0, True)


def test_a_broken_typed_model_fails_and_only_its_broken_output(tmp_path: Path) -> None:
    fp32, typed = written("crossroads", tmp_path, Precision.INT8)
    proto = onnx.load(typed)
    scale = next(tensor for tensor in proto.graph.initializer if tensor.name == "strided.weight_int8_scale")
    scale.raw_data = (onnx.numpy_helper.to_array(scale) * np.float16(-9)).astype(np.float16).tobytes()
    onnx.save(proto, typed)
    verdicts = {
        output.output: output
        for output in compare_models(fp32, typed, samples("crossroads"), 4, {**LEAST, "hub": 10.0}).outputs
    }
    assert verdicts["hub"].passed
    assert not verdicts["output"].passed
    assert verdicts["output"].sqnr_db is not None
    assert verdicts["output"].sqnr_db < 10


@pytest.mark.parametrize("broken", ["fp32.onnx", "typed.onnx"])
def test_a_model_that_cannot_be_loaded_is_an_error_in_silence(
    broken: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fp32, typed = written("mlp", tmp_path, Precision.INT8)
    (tmp_path / broken).write_bytes(b"nonsense")
    with pytest.raises(
        RuntimeFailure, match=r"could not compare fp32\.onnx with typed\.onnx: .*Wire format was corrupt"
    ):
        compare_models(fp32, typed, samples("mlp"), 4, LEAST)
    assert capfd.readouterr() == ("", "")


def test_inputs_that_do_not_fit_are_an_error_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fp32, typed = written("mlp", tmp_path, Precision.INT8)
    with pytest.raises(RuntimeFailure, match="incompatible shape"):
        run_both(fp32, typed, [{"input": np.zeros((2, 7), np.float32)}])
    assert capfd.readouterr() == ("", "")


def far_from(network: str, folder: Path) -> tuple[Path, Path]:
    """The FP32 file, and one whose typed network gives noise beside a signal 1.5 times as strong: 3.5 dB."""
    fp32, typed = written(network, folder, Precision.INT8)
    proto = onnx.load(fp32)
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "fc1.weight")
    weight.raw_data = (-onnx.numpy_helper.to_array(weight)).tobytes()
    onnx.save(proto, typed)
    return fp32, typed


def test_an_output_passes_with_exactly_the_ratio_that_is_asked_of_it(tmp_path: Path) -> None:
    fp32, typed = far_from("mlp", tmp_path)
    (output,) = compare_models(fp32, typed, samples("mlp"), 4, LEAST).outputs
    assert output.sqnr_db is not None
    assert not output.passed
    for threshold, passes in ((output.sqnr_db - 0.01, True), (output.sqnr_db + 0.01, False)):
        (again,) = compare_models(fp32, typed, samples("mlp"), 4, {"output": threshold}).outputs
        assert (again.passed, again.required_db) == (passes, threshold)


def test_what_fails_is_named_where_that_is_a_condition(tmp_path: Path) -> None:
    fp32, typed = far_from("mlp", tmp_path)
    require_passed(compare_models(fp32, fp32, samples("mlp"), 4, LEAST), "typed.onnx")
    with pytest.raises(
        ComparisonFailed, match=r"of typed\.onnx with FP32 failed \(output 'output': .* dB, required 10"
    ):
        require_passed(compare_models(fp32, typed, samples("mlp"), 4, LEAST), "typed.onnx")


def test_what_is_asked_of_all_outputs_and_of_one() -> None:
    assert required_snr_db({"": 10.0, "hub": 20.0}, ["output", "hub"]) == {"output": 10.0, "hub": 20.0}
    with pytest.raises(SettingsError, match="no output 'logits' is compared, of the model are output"):
        required_snr_db({"": 10.0, "logits": 20.0}, ["output"])


def test_files_are_compared_in_tensors_inside_and_engines_in_what_they_give(tmp_path: Path) -> None:
    fp32, typed = written("crossroads", tmp_path, Precision.INT8)
    asked = {"sum.relu.out": 10.0, "hub": 10.0}
    inside, hub = compare_models(fp32, typed, samples("crossroads"), 4, asked).outputs
    assert (inside.output, hub.output) == ("sum.relu.out", "hub")
    assert inside.passed
    engine = RUNTIME.load(typed)
    assert compare_models(fp32, engine, samples("crossroads"), 4, asked).outputs == (hub,)
    assert compare_models(fp32, engine, samples("crossroads"), 4, {"sum.relu.out": 10.0}).outputs == ()


def test_outputs_of_two_sizes_are_an_error(tmp_path: Path) -> None:
    fp32, _ = written("mlp", tmp_path, Precision.INT8)
    with pytest.raises(RuntimeFailure, match=r"'output' has 64 elements in FP32 and 3 in what .*--outputs"):
        compare_models(fp32, Saying(np.zeros((1, 3)), "output"), samples("mlp"), 4, LEAST, limit=4)


@given(reference=vectors, tested=vectors, spare=st.floats(-20, 20).filter(lambda spare: abs(spare) > 1e-3))
def test_polygraphy_judges_by_the_ratio_that_is_shown(reference: np.ndarray, tested: np.ndarray, spare: float) -> None:
    exact, seen = ({"y": values.astype(np.float64)} for values in (reference, tested))
    shown = sqnr_db(reference, tested)
    passed = have_enough_snr(exact, seen, {"": (shown or 0.0) - spare})["y"]
    assert passed == (shown is None or (bool(reference.any()) and spare > 0))


@given(reference=vectors, tested=vectors)
def test_differences_are_those_of_numpy(reference: np.ndarray, tested: np.ndarray) -> None:
    exact, seen = reference.astype(np.float64), tested.astype(np.float64)
    error = exact - seen
    power, peak = np.mean(exact**2), exact.max() if exact.max() > 0 else 1.0
    norms = np.linalg.norm(exact) * np.linalg.norm(seen)
    expected = {
        "l2": np.linalg.norm(error), "max-abs": np.abs(error).max(), "mean-abs": np.abs(error).mean(),
        "median-abs": np.median(np.abs(error)), "psnr": np.mean(error**2) / peak**2,
        "snr": np.mean(error**2) / power if power else (np.inf if error.any() else 0.0),
        "cosine": 1 - exact @ seen / norms if norms else float(exact.any() != seen.any()),
    }  # fmt: skip
    assert set(expected) == set(COMPARE_FUNCTIONS)
    for function, value in expected.items():
        assert differences([{"y": exact}], [{"y": seen}], function) == [pytest.approx(value, rel=1e-5, abs=1e-12)]


def test_rows_that_only_fill_a_fixed_batch_do_not_count(tmp_path: Path) -> None:
    proto = mlp()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    fixed = prepare(proto)
    save_graph(fixed.graph.clone(), tmp_path / "fp32.onnx")
    plan = PrecisionPlan.uniform(fixed.grouping.groups, Precision.INT8, Precision.FP16)
    ranges = fixed.calibrated(fixed.samples(feeds("mlp")["input"][:8]), batch=4)
    save_graph(Emitter(fixed.graph, fixed.grouping, ranges).strong(plan), tmp_path / "typed.onnx")
    few = fixed.samples(feeds("mlp")["input"][:5])
    (output,) = compare_models(tmp_path / "fp32.onnx", tmp_path / "typed.onnx", few, 3, LEAST).outputs
    padded = np.concatenate([feeds("mlp")["input"][:5], np.repeat(feeds("mlp")["input"][4:5], 3, axis=0)])
    exact, given = (
        np.concatenate([RUNTIME.load(tmp_path / name).run({"input": part})["output"] for part in np.split(padded, 2)])[
            :5
        ]
        for name in ("fp32.onnx", "typed.onnx")
    )
    noise, signal = (np.sum(values.astype(np.float64) ** 2) for values in (exact - given, exact))
    assert output.sqnr_db == pytest.approx(10 * np.log10(signal / noise), rel=1e-4)


def test_torch_is_not_loaded_for_it(tmp_path: Path) -> None:
    """Polygraphy imports torch where it is installed, which takes longer than the comparison."""
    onnx.save(mlp(), tmp_path / "net.onnx")
    program = (
        "import sys, numpy as np, pathlib\n"
        "from trt_mpq.runtime.polygraphy import have_enough_snr, run_both\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "feeds = [{'input': np.zeros((1, int(sys.argv[2])), np.float32)}]\n"
        "(one,), (other,) = run_both(path, path, feeds)\n"
        "assert all(have_enough_snr(one, other, {'': 60.0}).values())\n"
        "assert 'torch' not in sys.modules\n"
    )
    width = str(mlp().graph.input[0].type.tensor_type.shape.dim[1].dim_value)
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "net.onnx"), width], check=True)
