"""A build from Python: every kind of model and data, the same files as the command line makes, and resumed as there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import trt_mpq
from tests.runs import tiny_cnn, write_data
from trt_mpq.types import SilentObserver

QUICK: dict[str, Any] = {
    "search": "uniform",
    "calibration": "minmax",
    "bias_correction": False,
    "threads": 1,
    "device": "rtx4090",
    "engine": {"build": "never"},
    "progress": False,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_data(tmp_path, tiny_cnn())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrays(name: str) -> dict[str, Any]:
    return dict(np.load(f"{name}.npz"))


def right(outputs: dict[str, Any], labels: Any) -> Any:
    return (outputs["output"].argmax(1) == labels).astype(float)


def test_files_give_what_the_command_line_gives(here: Path) -> None:
    words = "net.onnx --calib calib.npz --eval eval.npz --search uniform --calibration minmax --no-bias-correction"
    command = [sys.executable, "-m", "trt_mpq", "build", *words.split(), "--threads", "1", "--device", "rtx4090"]
    subprocess.run([*command, "--no-engine", "--no-compile", "-q", "-o", "theirs"], check=True, timeout=300)
    ours = trt_mpq.build(Path("net.onnx"), calib="calib.npz", eval="eval.npz", output="ours", **QUICK)
    theirs = trt_mpq.load("theirs")
    assert ours.plan == theirs.plan
    assert ours.accuracy == theirs.accuracy
    assert ours.files["typed"].read_bytes() == theirs.files["typed"].read_bytes()


def test_protos_arrays_and_functions(here: Path) -> None:
    calib, evaluation = arrays("calib"), arrays("eval")
    given = {"calib": calib["input"], "eval": (evaluation["input"], evaluation["labels"]), "metric": right}
    found = trt_mpq.build(tiny_cnn(), **given, **QUICK)
    named = trt_mpq.build("net.onnx", calib="calib.npz", eval="eval.npz", metric="top1", output="named", **QUICK)
    assert found.accuracy.plan == named.accuracy.plan
    assert found.plan == named.plan
    assert found.data.accuracy.metric.endswith(":right")
    assert set(found.files) == {"typed", "weak", "reference", "plan", "report", "json"}


def test_what_is_finished_is_not_done_again(here: Path) -> None:
    stages: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        stages.append(stage)

    given: dict[str, Any] = {
        **QUICK,
        "calib": arrays("calib"),
        "eval": arrays("eval"),
        "metric": lambda o, y: right(o, y),
    }
    first = trt_mpq.build("net.onnx", **{**given, "progress": progress})
    assert "Calibrating" in stages
    stages.clear()
    again = trt_mpq.build("net.onnx", **{**given, "calib": dict(arrays("calib")), "progress": progress})
    assert stages == []
    assert again.plan == first.plan
    trt_mpq.build("net.onnx", **{**given, "calib": {"input": arrays("calib")["input"] * 2}, "progress": progress})
    assert "Calibrating" in stages


def test_the_command_line_goes_on_where_python_stopped(here: Path) -> None:
    trt_mpq.build("net.onnx", calib=arrays("calib"), eval=arrays("eval"), **QUICK)
    command = [sys.executable, "-m", "trt_mpq", "report", "run", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert json.loads(done.stdout)["plan"]["digest"] == trt_mpq.load("run").plan.digest


def test_stages_one_by_one(here: Path) -> None:
    with trt_mpq.Run("net.onnx", calib=arrays("calib"), eval=arrays("eval"), **QUICK) as run:
        groups = run.inspect()
        assert len(groups.groups) == 4
        assert run.calibrate().samples == 24
        assert run.sensitivity().rankings
        chosen = run.search().chosen.plan
        assert run.emit() == chosen == run.build().plan


@pytest.mark.usefixtures("nvidia_compiler")
def test_compiling_needs_no_gpu(here: Path) -> None:
    given = {**QUICK, "engine": trt_mpq.EngineOptions(compile_timeout_s=300)}
    run = trt_mpq.Run("net.onnx", calib="calib.npz", eval="eval.npz", **given)
    assert run.compile().build.built
    assert trt_mpq.load("run").files["engine"].is_file()


def test_torch_modules_stay_as_they_are(here: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(576, 10),
    ).double()
    data = torch.utils.data.TensorDataset(torch.tensor(arrays("calib")["input"]))
    found = trt_mpq.build(module, calib=torch.utils.data.DataLoader(data, batch_size=8), target_accuracy=0.9, **QUICK)
    assert module.training
    assert next(module.parameters()).dtype == torch.float64
    assert found.data.model.name == "Sequential"
    given = trt_mpq.build(
        module, calib=data, example_inputs=torch.zeros(2, 3, 8, 8), export=trt_mpq.ExportOptions(fixed_batch=1),
        output="fixed", target_accuracy=0.9, **QUICK,
    )  # fmt: skip
    assert onnx.load("fixed/exported/model.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert given.plan.counts()


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"target_accuracy": 1.5}, "SettingsError", "target_accuracy"),
        (
            {"target_accuracy": 0.9, "target_latency": 1.0},
            "SettingsError",
            "target_accuracy= and target_latency=",
        ),
        ({"precision": "int8"}, "SettingsError", "unknown setting"),
        ({"device": "toaster"}, "SettingsError", "unknown device 'toaster'"),
        ({"metric": right.__get__(1), "workers": 2}, "SettingsError", "leave out workers= and ray="),
        ({"metric": "nowhere"}, "MetricError", "unknown metric"),
        ({"calib": None}, "DataError", "pass calib="),
        ({"calib": (np.zeros((2, 3, 8, 8)), 1, 2)}, "DataError", "calib= gives 3 arrays"),
        ({"calib": np.zeros((2, 3, 9, 8))}, "DataError", r"shape \[3, 9, 8\]"),
        ({"output": "."}, "SettingsError", "choose another with output="),
    ],
)
def test_mistakes_are_our_errors(here: Path, given: dict[str, Any], kind: str, said: str) -> None:
    with pytest.raises(trt_mpq.TrtMpqError, match=said) as caught:
        trt_mpq.build("net.onnx", **{**QUICK, "calib": "calib.npz", "eval": "eval.npz", **given})
    assert type(caught.value).__name__ == kind


@pytest.mark.parametrize(("model", "said"), [(3, "type int for a model"), ("none.onnx", "no model file none.onnx")])
def test_models_that_are_none(here: Path, model: Any, said: str) -> None:
    with pytest.raises(trt_mpq.TrtMpqError, match=said):
        trt_mpq.build(model, calib=np.zeros((2, 3, 8, 8)), **QUICK)


def test_settings_are_checked_before_any_work(here: Path) -> None:
    torch = pytest.importorskip("torch")

    def never() -> Any:
        raise AssertionError("the data was asked for")

    with pytest.raises(trt_mpq.TrtMpqError, match="unknown device"):
        trt_mpq.build(torch.nn.Linear(2, 2), calib=never, **{**QUICK, "device": "toaster"})
    assert not Path("run").exists()


def test_a_folder_of_another_model_is_left_alone(here: Path) -> None:
    trt_mpq.build(tiny_cnn(), calib=arrays("calib"), eval=arrays("eval"), **QUICK)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file() and path.suffix != ".lock"}
    with pytest.raises(trt_mpq.TrtMpqError, match="belongs to another model"):
        trt_mpq.build(tiny_cnn(seed=1), calib=arrays("eval"), eval=arrays("eval"), **QUICK)
    assert {path: path.read_bytes() for path in before} == before


def test_code_of_a_job_runs_only_with_trust(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "judge_of_a_job", raising=False)
    Path("judge_of_a_job.py").write_text("def score(outputs, labels):\n    return 1.0\n", encoding="utf-8")
    job = 'model = "net.onnx"\ncalib = "calib.npz"\nmetric = "judge_of_a_job:score"\n'
    Path("job.toml").write_text(job, encoding="utf-8")
    with pytest.raises(trt_mpq.TrtMpqError, match="pass trust="):
        trt_mpq.build("job.toml", **QUICK)
    assert trt_mpq.build("job.toml", trust=True, **QUICK).accuracy.plan == 1.0


def test_reports_show_themselves(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = trt_mpq.build("net.onnx", calib="calib.npz", eval="eval.npz", **{**QUICK, "progress": True})
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("Calibrating: ") for line in lines)
    found.report.show()
    said = capsys.readouterr().out
    assert "net.onnx on rtx4090" in said
    assert "\x1b" not in said
    frame = found._repr_html_()
    assert frame == found.report._repr_html_()
    assert frame.startswith("<iframe")
    assert "<script>" not in frame, "the page is escaped into its frame"
    assert "of the FP32" in str(found)
    with pytest.raises(trt_mpq.TrtMpqError, match="cannot be read"):
        trt_mpq.load("nowhere")


def test_observers_are_told_everything(here: Path) -> None:
    class Notes(SilentObserver):
        plans = 0

        def evaluated(self, evaluation: Any, metric: str, required: float) -> None:
            self.plans += 1

    notes = Notes()
    trt_mpq.build("net.onnx", calib="calib.npz", eval="eval.npz", **{**QUICK, "progress": notes})
    assert notes.plans > 0


def test_any_plan_that_was_tried_can_be_had(here: Path) -> None:
    given = {**QUICK, "calib": "calib.npz", "eval": "eval.npz", "search": "greedy", "max_evaluations": 4}
    with trt_mpq.Run("net.onnx", **given) as run:
        found, chosen = run.search(), run.build().plan
        other = next(tried.plan for tried in found.path if tried.plan != chosen)
        assert run.emit(other.digest[:10]) == other
        with pytest.raises(trt_mpq.TrtMpqError, match="give the digest that the report shows"):
            run.emit("no digest")
    written = json.loads(Path(f"run/plans/{other.digest}/plan.json").read_text(encoding="utf-8"))
    assert written == {group: precision.value for group, precision in other.as_dict().items()}
    onnx.checker.check_model(onnx.load(f"run/plans/{other.digest}/typed.onnx"))
    assert json.loads(Path("run/plan.json").read_text(encoding="utf-8")) == chosen.as_dict()
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert f'data-plan="{other.digest}"' in page or other.digest in page
    report = trt_mpq.load("run").data
    assert {row.name for row in report.tensors} >= {"input"}
    assert set(report.layer_errors) == set(chosen.as_dict())
    assert all(sum(row.bins) for row in report.tensors) is False, "minmax counts nothing"


def test_models_that_are_named_take_data_in_order_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.delitem(sys.modules, "factory_of_a_test", raising=False)
    Path("job.toml").write_text('model = "net.onnx"\n', encoding="utf-8")
    Path("factory_of_a_test.py").write_text(
        "import torch\ndef make():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 64)), torch.zeros(2, 3, 8, 8)\n",
        encoding="utf-8",
    )
    images = arrays("calib")["input"]
    for model in ("job.toml", "factory_of_a_test:make"):
        with trt_mpq.Run(model, calib=[images[:12], images[12:]], output=model[:7], **QUICK) as run:
            assert run.calibrate().samples == 24
    by_name = trt_mpq.Run("factory_of_a_test:make", calib={"input": images}, output="by-name", **QUICK)
    assert by_name.calibrate().samples == 24
    by_name.close()


def test_several_devices_give_a_result_each(here: Path) -> None:
    given = {**QUICK, "calib": "calib.npz", "eval": "eval.npz"}
    results = trt_mpq.build("net.onnx", **{**given, "device": ["l4", "t4"], "output": "both"})
    assert isinstance(results, trt_mpq.DeviceResults)
    assert list(results) == ["l4", "t4"]
    assert len(results) == 2
    alone = trt_mpq.build("net.onnx", **{**given, "device": "t4", "output": "alone"})
    assert results["t4"].plan == alone.plan
    assert results["t4"].latency_ms == alone.latency_ms
    with pytest.raises(KeyError):
        results["h100"]
    assert str(results) in str(results.report)
    assert "<iframe" in results._repr_html_()
    assert json.loads(Path("both/comparison.json").read_text())["devices"][1]["folder"] == "t4"
    trt_mpq.build("net.onnx", **{**given, "device": ("l4",), "output": "one"})
    with pytest.raises(trt_mpq.TrtMpqError, match=r"a Run is for one device: give device= one name"):
        trt_mpq.Run("net.onnx", **{**given, "device": ["l4", "t4"], "output": "run"})
    with pytest.raises(trt_mpq.TrtMpqError, match="t4 has no fp8 arithmetic"):
        trt_mpq.build("net.onnx", **{**given, "device": ["l4", "t4"], "precisions": "fp16,fp8", "output": "other"})
