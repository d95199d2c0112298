"""What the commands hand to a run, and what they print of its answers; a stand-in takes the place of `Run`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from trt_mpq.artifacts import store
from trt_mpq.artifacts.files import from_json, to_json
from trt_mpq.cli import app
from trt_mpq.cli.tables import sensitivities_table
from trt_mpq.pipeline import run as pipeline
from trt_mpq.sensitivity.agreement import Agreement, Sensitivities
from trt_mpq.settings import Settings
from trt_mpq.types import (
    Comparison,
    Evaluation,
    Grouping,
    LayerGroup,
    OutputComparison,
    Precision,
    PrecisionPlan,
    QuantizedInput,
    Ranges,
    Ranking,
    Score,
    SearchResult,
    TensorRange,
    Weight,
)
from trt_mpq.types.observer import Observer

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
STORED = {"model": "stored.onnx", "calib": "stored.npz", "seed": 7}


def group(index: int, name: str, **excluded: str) -> LayerGroup:
    weight = Weight(f"{name}.weight", (16, 3, 3, 3), 0, name, None, "y", 1, 4)
    read = QuantizedInput("x", name, 0, "input")
    reasons = {Precision(p): reason for p, reason in excluded.items()}
    return LayerGroup(name, index, "Conv", (name,), (weight,), (read,), {"y": 10}, 41_200_000, 10, excluded=reasons)


GROUPING = Grouping((group(0, "stem[/x]", fp8="too few channels", int8="too few channels"), group(1, "head")), (), ())
RANGES = Ranges(
    {INT8: "entropy"}, 1024,
    {
        "image": TensorRange(-1.0, 2.0, {INT8: 1.75}),
        "loud": TensorRange(0.0, 1e6),
        "watched": TensorRange(0.0, 3.0),
    },
)  # fmt: skip
RANKING = Ranking("noise", 3, ("a", "b", "c"), {INT8: {"a": 0.5, "b": 1.0, "c": -0.1}}, 512.0)
OTHER = Ranking("task-loss", 3, ("a", "b", "c"), {INT8: {"a": 0.0, "b": 0.0, "c": 0.0}}, 1024.0)
AGREEMENT = Agreement(("noise", "task-loss"), (512.0, 1024.0), {INT8: ((1.0, None), (None, None))})
SENSITIVITIES = Sensitivities((RANKING, OTHER), AGREEMENT)
WIDE = PrecisionPlan.of({"a": FP16, "b": FP16, "c": FP16})
MIXED = WIDE.replace({"a": INT8, "c": INT8})
CHOSEN = Evaluation(MIXED, Score(0.91416, 0.004, 5000), 0.0309, True, "to int8: 2 groups")
EARLY = Evaluation(MIXED.replace({"b": INT8}), Score(0.80001, 0.01, 400), 0.0287, False, "uniform int8", complete=False)
RESULT = SearchResult("bisection", (FP16, INT8), CHOSEN, (EARLY, CHOSEN))
COMPARISON = Comparison(64, (OutputComparison("logits", 42.71, 0.999974, 0.164, 10.0, True),))


class StandIn:
    """Remembers how it was made, answers with the values above."""

    made: StandIn

    def __init__(self, settings: Settings, folder: Path, observer: Observer, command: str) -> None:
        self.settings, self.folder, self.observer, self.command = settings, folder, observer, command
        type(self).made = self

    def inspect(self) -> Grouping:
        return GROUPING

    def calibrate(self) -> Ranges:
        return RANGES

    def sensitivities(self) -> Sensitivities:
        return SENSITIVITIES

    def search(self) -> SearchResult:
        return RESULT

    def emit(self) -> PrecisionPlan:
        return MIXED

    def latencies(self) -> tuple[str, None]:
        return "modelled for h200", None

    def task(self) -> tuple[str, float]:
        return "top1", 0.9

    def compare(self) -> Comparison:
        return COMPARISON


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pipeline, "Run", StandIn)
    monkeypatch.setattr(store, "settings_of_run", lambda folder: dict(STORED))
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.stdout


STAGES = {
    "calibrate": (RANGES, Ranges),
    "sensitivity": (SENSITIVITIES, Sensitivities),
    "search": (RESULT, SearchResult),
    "emit": (MIXED, PrecisionPlan),
    "compare": (COMPARISON, Comparison),
}


@pytest.mark.parametrize("stage", STAGES)
def test_json_of_a_stage_is_its_value(stage: str) -> None:
    value, kind = STAGES[stage]
    assert from_json(invoke(stage, "run", "--json"), kind) == value


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_goes_on_with_the_stored_settings(stage: str) -> None:
    invoke(stage, "run", "--threads", "1")
    assert StandIn.made.settings == Settings(**STORED, threads=1)
    assert StandIn.made.folder == Path("run")


@pytest.mark.parametrize("stage", STAGES)
def test_quiet_stage_prints_nothing(stage: str) -> None:
    assert invoke(stage, "run", "--quiet") == ""


def test_options_override_the_stored_settings() -> None:
    invoke("search", "run", "--seed", "0", "--precisions", "int8,fp8", "--mix-formats", "--target-accuracy", "0.999")
    made = StandIn.made.settings
    assert (made.seed, made.calib, made.mix_formats, made.target_accuracy) == (0, "stored.npz", True, 0.999)
    assert made.precisions == (FP16, FP8, INT8)


def test_a_flag_can_be_switched_off() -> None:
    invoke("calibrate", "run", "--no-bias-correction")
    assert StandIn.made.settings.bias_correction is False


def test_inspect_starts_a_run_with_defaults() -> None:
    shown = invoke("inspect", "model.onnx", "-o", "new")
    assert StandIn.made.settings == Settings(model=Path("model.onnx"))
    assert "fp8, int8: too few channels" in shown
    assert "stem[/x]" in shown, "names are no markup"
    assert "2 groups with 82.4 M FLOPs" in shown


def test_inspect_keeps_the_settings_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(to_json(store.Manifest("abc"), store.Manifest))
    invoke("inspect", "other.onnx", "-o", str(tmp_path))
    assert StandIn.made.settings == Settings(**{**STORED, "model": "other.onnx"})


def test_ranges_show_what_is_quantized_and_what_overflows() -> None:
    shown = invoke("calibrate", "run")
    assert "1.75" in shown
    assert "loud" in shown
    assert "watched" not in shown
    assert "3 tensors observed on 1,024 samples, ranges by entropy, 1 beyond FP16" in shown


def test_ranking_has_the_most_sensitive_on_top_with_the_longest_bar() -> None:
    rows = [line.split() for line in invoke("sensitivity", "run").splitlines()]
    order = [row[1] for row in rows if row and row[0] in ("1", "2", "3")]
    assert order == ["b", "a", "c"]
    bars = [row[-1].count("█") for row in rows if row and row[0] in ("1", "2", "3")]
    assert bars[0] == 2 * bars[1] > bars[2] == 0


def test_several_metrics_are_compared_below_the_ranking() -> None:
    shown = invoke("sensitivity", "run")
    rows = [line.split() for line in shown.splitlines()]
    assert ["noise", "1.00", "\u2013"] in rows
    assert ["task-loss", "\u2013", "\u2013"] in rows
    assert "task-loss is the loss with each group really quantized" in shown


def test_a_single_metric_is_not_compared() -> None:
    alone = sensitivities_table(Sensitivities((RANKING,), None))
    console = Console(width=100)
    with console.capture() as shown:
        console.print(alone)
    assert "Kendall" not in shown.get()


def test_search_shows_the_path_and_the_choice() -> None:
    shown = invoke("search", "run")
    assert "~80.00 % ± 1.00 % (after 400 samples)" in shown
    assert "chose 2 int8, 1 fp16: top1 91.42 % ± 0.40 %, 0.0309 ms" in shown


def test_emit_lists_the_files_that_exist(tmp_path: Path) -> None:
    (tmp_path / "typed.onnx").write_bytes(bytes(1500))
    shown = invoke("emit", ".")
    assert "typed.onnx" in shown
    assert "1.50 kB" in shown
    assert "weak.onnx" not in shown


def test_compare_shows_every_figure() -> None:
    shown = invoke("compare", "run")
    assert [word for word in ("42.7 dB", "0.999974", "0.164", "passed", "10 dB") if word not in shown] == []


def test_compare_may_require_that_every_output_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "passed" in invoke("compare", "run", "--require-comparison")
    far = Comparison(64, (OutputComparison("logits", 5.4, 0.9, 1.2, 10.0, False),))
    monkeypatch.setattr(StandIn, "compare", lambda self: far)
    assert "failed" in invoke("compare", "run")
    done = CliRunner().invoke(app, ["compare", "run", "--require-comparison"])
    assert done.exit_code == 2
    assert "comparison of typed.onnx with FP32 failed (output 'logits': 5.4 dB, required 10 dB)" in done.output


def job(tmp_path: Path, text: str) -> str:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return str(path)


def test_a_job_file_is_read_and_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "/models")
    path = job(tmp_path, 'model = "$MODELS/net.onnx"\ncalib = "recipe:calib"\nprecisions = ["fp8"]\nbatch = 8\n')
    invoke("inspect", path, "--batch", "4")
    made = StandIn.made.settings
    assert (made.model, made.calib, made.batch) == (Path("/models/net.onnx"), "recipe:calib", 4)
    assert made.precisions == (FP16, FP8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('model = "$NOT_SET_ANYWHERE/net.onnx"', "NOT_SET_ANYWHERE is not set"),
        ('calib = "recipe:calib"', "give --model"),
        ('model = "net.onnx"\ncolour = "red"', "colour: unknown setting"),
        ('model = "net.onnx"\nbatch = 0', "batch: Input should be greater than 0"),
        ('model = "net.onnx"\nprecisions = ["int9"]', "choose from fp16, bf16, w8a16, fp8, int8, w4a16, nvfp4, int4"),
        ("model = ", "not valid TOML"),
    ],
)
def test_a_bad_job_file_is_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = job(tmp_path, text)
    done = CliRunner().invoke(app, ["build", path])
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.startswith(f"error: {path}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_missing_job_file_is_refused() -> None:
    done = CliRunner().invoke(app, ["build", "absent.toml"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "absent.toml" in done.stderr


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("engines/jobs/*.toml")), ids=lambda p: p.stem)
def test_committed_jobs_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trt_mpq.pipeline.checks import check_settings

    monkeypatch.setenv("TRT_MPQ_DATA", "/data")
    copy = shutil.copy(path, Path.cwd())
    invoke("inspect", str(copy))
    check_settings(StandIn.made.settings)
    model = StandIn.made.settings.model
    assert str(model).startswith("/data/") or (path.parent / "../../trt_mpq/_data" / model.name).is_file()


def test_the_command_line_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/trt-mpq", "inspect", "my model.onnx"])
    invoke("inspect", "my model.onnx")
    assert StandIn.made.command == "trt-mpq inspect 'my model.onnx'"


def test_an_unknown_option_is_refused() -> None:
    done = CliRunner().invoke(app, ["build", "model.onnx", "--colour", "red"])
    assert done.exit_code == 2
    assert "--colour" in done.stderr


def test_interrupt_tells_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Any) -> Grouping:
        raise KeyboardInterrupt

    monkeypatch.setattr(StandIn, "inspect", interrupted)
    done = CliRunner().invoke(app, ["inspect", "model.onnx", "--device", "l4"])
    assert (done.exit_code, done.stderr) == (130, "interrupted; run the same command to resume\n")


def test_doctor_json_is_json() -> None:
    assert json.loads(invoke("doctor", "--json"))["python"]
