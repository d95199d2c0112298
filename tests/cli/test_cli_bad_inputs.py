"""Bad inputs end in one clear sentence and exit code 2, with nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from tests.networks import mlp, sample_input
from trt_mpq.artifacts.files import TEMPORARY
from trt_mpq.cli import app

SAMPLES = 24
FAST = ("--threads", "1", "--trials", "1", "--no-bias-correction")


@dataclass
class Case:
    """A build that would work, ready to be spoilt."""

    folder: Path
    options: dict[str, str] = field(default_factory=dict)
    model: Path = field(init=False)
    output: Path = field(init=False)
    arrays: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.output = self.folder / "net.onnx", self.folder / "run"
        onnx.save(mlp(), self.model)
        labels = np.random.default_rng(0).integers(0, 16, SAMPLES)
        self.arrays = {**sample_input(mlp(), SAMPLES), "labels": labels}

    def save_data(self) -> None:
        if "--calib" not in self.options:
            self.options["--calib"] = str(self.folder / "data.npz")
            np.savez(self.options["--calib"], **self.arrays)

    def arguments(self) -> list[str]:
        self.save_data()
        words = [word for option in self.options.items() for word in option]
        return ["build", str(self.model), "-o", str(self.output), *FAST, *words]


Spoil = Callable[[Case], None]


def option(*words: str) -> Spoil:
    """Options and their values, in turn."""
    return lambda case: case.options.update(zip(words[::2], words[1::2], strict=True))


def array(name: str, change: Callable[[Any], Any]) -> Spoil:
    return lambda case: case.arrays.update({name: change(case.arrays[name])})


def renamed(case: Case) -> None:
    case.arrays["picture"] = case.arrays.pop("input")


def with_nan(values: Any) -> Any:
    values[3, 5] = np.nan
    return values


def pickled(case: Case) -> None:
    case.arrays["input"] = np.array([{"a": 1}] * SAMPLES, dtype=object)


def model_bytes(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(case: Case) -> None:
        case.model.write_bytes(change(case.model.read_bytes()))

    return spoil


def model_missing(case: Case) -> None:
    case.model.unlink()


def external_outside(case: Case) -> None:
    proto = onnx.load(case.model)
    (case.folder / "models").mkdir()
    case.model = case.folder / "models" / "net.onnx"
    onnx.save(proto, case.model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (case.folder / "models" / "weights.bin").rename(case.folder / "weights.bin")
    proto = onnx.load(case.model, load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = "../weights.bin"
    case.model.write_bytes(proto.SerializeToString())


def op_that_fails_to_run(case: Case) -> None:
    """Reads row 1000 of a table with one row: valid ONNX, found out only when it runs."""
    nodes = [
        helper.make_node("Shape", ["input"], ["shape"], start=0, end=1),
        helper.make_node("Add", ["shape", "thousand"], ["row"]),
        helper.make_node("Gather", ["table", "row"], ["picked"], name="lookup"),
        helper.make_node("Add", ["input", "picked"], ["moved"]),
        helper.make_node("MatMul", ["moved", "weight"], ["output"], name="fc"),
    ]
    constants = {
        "thousand": np.array([1000]),
        "table": np.ones((1, 32), np.float32),
        "weight": np.ones((32, 16), np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 16])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), case.model)


def custom_metric(module: str, body: str) -> Spoil:
    def spoil(case: Case) -> None:
        (case.folder / f"{module}.py").write_text(f"import numpy as np\ndef score(outputs, labels):\n    {body}\n")
        case.options["--metric"] = f"{module}:score"

    return spoil


def output_is_a_file(case: Case) -> None:
    case.output.write_text("a file")


def output_of_another_model(case: Case) -> None:
    case.output.mkdir()
    (case.output / "manifest.json").write_text(json.dumps({"source_sha256": "0" * 64, "source": "theirs.onnx"}))


def output_not_writable(case: Case) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs a folder in which not even root may write")
    case.output = Path("/proc/run")


CASES: dict[str, tuple[Spoil, str]] = {
    "model missing": (model_missing, "net.onnx"),
    "model empty": (model_bytes(lambda _: b""), "net.onnx"),
    "model truncated": (model_bytes(lambda content: content[: len(content) // 2]), "net.onnx"),
    "model no ONNX": (model_bytes(lambda _: b"\x89PNG\r\n" * 100), "net.onnx"),
    "array of wrong name": (renamed, "'picture'"),
    "array of wrong dtype": (array("input", lambda values: values.astype(np.float64)), "float64"),
    "array of wrong rank": (array("input", lambda values: values[:, :, None]), "[32, 1]"),
    "no samples": (lambda case: case.arrays.update({k: v[:0] for k, v in case.arrays.items()}), "no samples"),
    "NaN": (array("input", with_nan), "sample 3"),
    "pickled objects": (pickled, "pickle"),
    "labels of other length": (array("labels", lambda values: values[:-1]), "'labels' 23"),
    "data missing": (option("--calib", "absent.npz"), "absent.npz"),
    "data no npz": (lambda case: case.options.update({"--calib": _text_file(case)}), "data.npz"),
    "recipe unknown": (option("--calib", "no-such-recipe"), "no-such-recipe"),
    "metric unknown": (option("--metric", "top3"), "top1"),
    "precision unknown": (option("--precisions", "fp16,int9"), "choose from fp16, bf16, "),
    "precision of nothing": (option("--precisions", "fp16"), "name at least one of w8a16, fp8"),
    "device unknown": (option("--device", "abacus"), "h200"),
    "device without precision": (lambda case: case.options.update({"--device": "a100", "--precisions": "fp8"}), "fp8"),
    "sensitivity unknown": (option("--sensitivity", "gut"), "hessian"),
    "search unknown": (option("--search", "luck"), "bisection"),
    "calibration unknown": (option("--calibration", "guess"), "entropy"),
    "calibration list with a gap": (option("--calibration", "mse,"), "unknown calibration ''"),
    "calibration named twice": (option("--calibration", "mse,mse"), "mse is named twice"),
    "exclusions unknown": (option("--exclusions", "mine"), "modelopt"),
    "two targets": (option("--target-accuracy", "0.9", "--target-latency", "1"), "exclude each other"),
    "size without a unit we know": (option("--target-size", "12 furlongs"), "target_size"),
    "greedy for a latency": (option("--search", "greedy", "--target-latency", "1"), "no target but accuracy"),
    "pin without a pattern": (option("--keep", "fp16"), "PRECISION:PATTERN"),
    "target above one": (option("--target-accuracy", "1.5"), "target_accuracy"),
    "batch of nothing": (option("--batch", "0"), "batch"),
    "metric that raises": (
        custom_metric("metric_that_raises", "raise RuntimeError('lost the labels')"),
        "lost the labels",
    ),
    "metric that returns NaN": (custom_metric("metric_of_nan", "return np.nan"), "NaN"),
    "metric without a module": (option("--metric", "no_such_module_here:score"), "no_such_module_here"),
    "target nobody can meet": (
        lambda case: case.options.update({"--metric": "sqnr", "--target-accuracy": "1"}),
        "best",
    ),
    "op that cannot run": (op_that_fails_to_run, "lookup"),
    "output is a file": (output_is_a_file, "run"),
    "output not writable": (output_not_writable, "choose another folder with -o"),
    "output of another model": (output_of_another_model, "theirs.onnx"),
    "external data outside": (external_outside, "outside the model's folder"),
}


def _text_file(case: Case) -> str:
    path = case.folder / "data.npz"
    path.write_text("no archive")
    return str(path)


@pytest.mark.parametrize("name", CASES)
def test_ends_in_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, words = CASES[name]
    monkeypatch.chdir(tmp_path)
    case = Case(tmp_path)
    spoil(case)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    done = CliRunner().invoke(app, case.arguments())
    last = done.stderr.splitlines()[-1]
    assert done.exit_code == 2, done.output
    assert last.startswith("error: ")
    assert words in last
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    left = {path.name for path in tmp_path.rglob("*") if path.is_file() and path not in before}
    assert not left & {"typed.onnx", "reference.onnx", "weak.onnx", "report.json", "report.html"}
    assert not [file for file in left if file.startswith(TEMPORARY)], "temporary files stay behind"


def test_the_unspoilt_case_builds(tmp_path: Path) -> None:
    case = Case(tmp_path)
    done = CliRunner().invoke(app, [*case.arguments(), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["groups"] == 3


@pytest.mark.parametrize("stage", ["calibrate", "sensitivity", "search", "emit", "compare", "report"])
@pytest.mark.parametrize("content", [None, "", "{}"], ids=["no manifest", "empty manifest", "manifest of nothing"])
def test_a_folder_that_is_no_run(stage: str, content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    done = CliRunner().invoke(app, [stage, str(tmp_path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert str(tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1
