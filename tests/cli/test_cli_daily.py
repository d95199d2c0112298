"""The command line of every day: a short help, words that hands know, a look ahead, lines that are said once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.runs import tiny_cnn, write_data
from trt_mpq import doctor
from trt_mpq.cli import app
from trt_mpq.cli.output import Output
from trt_mpq.cli.trtexec_words import translated
from trt_mpq.errors import SettingsError
from trt_mpq.latency.target import target_of_gpu


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_help_of_build_is_short_and_names_the_rest() -> None:
    brief, whole = shown("build", "--help"), shown("build", "--help-all")
    options = [set(re.findall(r"--[a-z][\w-]+", text)) for text in (brief, whole)]
    assert {"--calib", "--eval", "--metric", "--target-accuracy", "--precisions", "--device", "--batch"} <= options[0]
    assert len(options[0]) <= 30 < 70 < len(options[1])
    assert "--help-all" in brief
    assert options[0] < options[1]
    assert "--smooth-alpha" in options[1] - options[0]


def test_other_commands_show_all_that_they_take() -> None:
    assert "--seed" in shown("search", "--help")
    assert "--help-all" not in shown("search", "--help")


def test_completion_knows_commands_and_options() -> None:
    code = "import sys; sys.argv = ['trt-mpq']; from trt_mpq.cli import main; main()"
    environment = {"PATH": "", "_TRT_MPQ_COMPLETE": "complete_bash", "PYTHONPATH": str(Path(__file__).parents[2])}

    def completed(words: str) -> str:
        told = {**environment, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=told
        )
        return done.stdout

    assert "build" in completed("trt-mpq bu")
    assert "--target-accuracy" in completed("trt-mpq build --targ")


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["--onnx=m.onnx", "--saveEngine=a.plan"], ["m.onnx", "--save-engine", "a.plan"]),
        (["--onnx", "m.onnx", "--fp16", "--int8"], ["m.onnx", "--precisions", "fp16,int8"]),
        (
            ["--minShapes=a:1x3,b:1", "--optShapes=a:4x3,b:4", "--maxShapes=a:8x3,b:8"],
            ["--shapes", "a=1x3:4x3:8x3", "--shapes", "b=1:4:8"],
        ),
        (["--minShapes", "t:0:1x3", "--optShapes=t:0:4x3", "--maxShapes=t:0:8x3"], ["--shapes", "t:0=1x3:4x3:8x3"]),
        (["--builderOptimizationLevel=5", "--memPoolSize=workspace:512MiB"],
         ["--optimization-level", "5", "--workspace-mib", "512"]),
        (["--stronglyTyped", "--noTF32", "--useDLACore=0"], ["--typing", "strong", "--no-tf32", "--dla-core", "0"]),
        (["m.onnx", "--device", "l4", "--batch=8"], ["m.onnx", "--device", "l4", "--batch=8"]),
    ],
)  # fmt: skip
def test_words_of_trtexec_are_understood(words: list[str], ours: list[str]) -> None:
    assert translated(words) == ours


def test_an_incomplete_profile_is_refused() -> None:
    with pytest.raises(
        SettingsError, match="--optShapes does not name 'a': give --minShapes, --optShapes and --maxShapes"
    ):
        translated(["--minShapes=a:1", "--maxShapes=a:2"])
    done = CliRunner().invoke(app, ["build", "m.onnx", "--memPoolSize=dlaSRAM:1"])
    assert done.exit_code == 2
    assert "--memPoolSize=dlaSRAM:1 is not understood" in done.stderr


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx4090"), ("NVIDIA L4", "l4"), ("NVIDIA L40S", "l40s"), ("NVIDIA A10", "a10"),
        ("NVIDIA A100-SXM4-80GB", "a100"), ("NVIDIA H200", "h200"), ("Tesla T4", "t4"), ("NVIDIA T400 4GB", None),
        ("NVIDIA Jetson AGX Orin Developer Kit", "orin-agx"), ("NVIDIA Jetson Orin Nano Super", "orin-nano"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"), ("NVIDIA GeForce GTX 1080", None),
    ],
)  # fmt: skip
def test_a_gpu_is_known_by_its_name(name: str, target: str | None) -> None:
    assert target_of_gpu(name) == target


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return write_data(tmp_path, tiny_cnn())


def look_ahead(files: dict[str, str], tmp_path: Path, *words: str) -> object:
    command = ["build", files["model"], "--calib", files["calib"], "--eval", files["eval"], "-o", str(tmp_path / "run")]
    return CliRunner().invoke(app, [*command, "--exclusions", "none", "--dry-run", *words], env={"COLUMNS": "300"})


def test_a_look_ahead_does_nothing_and_says_what_would_be(files: dict[str, str], tmp_path: Path) -> None:
    done = look_ahead(files, tmp_path, "--trials", "3")
    assert done.exit_code == 0, done.output
    assert "4 groups, 4 may run in INT8" in done.stdout
    assert "24 samples calibrate, 100 evaluate" in done.stdout
    assert re.search(r"about [\d.]+ to [\d.]+ such passes follow: .* to .* on this machine", done.stdout)
    assert "--trials has no effect in this run" in done.stdout
    assert not (tmp_path / "run" / "report.json").exists()
    assert "Calibrating" not in done.stderr
    told = json.loads(look_ahead(files, tmp_path, "--json").stdout)
    assert (told["groups"], told["lowerable"]) == (4, {"int8": 4})


def test_a_look_ahead_refuses_what_a_build_refuses(files: dict[str, str], tmp_path: Path) -> None:
    done = look_ahead(files, tmp_path, "--keep", "fp16:nothing*")
    assert (done.exit_code, "matches none of the 4 groups" in done.stderr) == (2, True)


def test_a_device_that_was_not_named_is_found_or_said(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "gpu_names", tuple)
    assert (
        "no --device was given and this machine has no GPU: latencies are those of h200"
        in look_ahead(files, tmp_path).stderr
    )
    monkeypatch.setattr(doctor, "gpu_names", lambda: ("NVIDIA L4",))
    done = look_ahead(files, tmp_path)
    assert "it is l4, as this machine has a NVIDIA L4" in done.stderr
    assert "for l4, batch 32" in done.stdout
    assert "no --device was given" not in look_ahead(files, tmp_path, "--device", "rtx4090").stderr


def test_a_stage_is_one_line_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    with output.stage("Calibrating"):
        pass
    with output.stage("Scoring") as progress:
        progress(1, 2)
    with pytest.raises(ValueError, match="broken"), output.stage("Searching"):
        raise ValueError("broken")
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"\d+\.\d s", "N s", line) for line in lines] == [
        "Calibrating ... N s",
        "Scoring ... N s",
        "Searching ...",
    ]


def test_verbose_tells_progress_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(verbose=True).stage("Scoring") as progress:
        for done in range(1, 101):
            progress(done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:4] == ["Scoring: 10 of 100", "Scoring: 20 of 100", "Scoring: 30 of 100"]
    assert len(lines) == 12


def test_verbose_shows_the_traceback_of_an_error(tmp_path: Path) -> None:
    quiet = CliRunner().invoke(app, ["build", str(tmp_path / "none.onnx"), "-o", str(tmp_path / "run")])
    told = CliRunner().invoke(app, ["build", str(tmp_path / "none.onnx"), "-o", str(tmp_path / "run"), "-v"])
    assert (quiet.exit_code, told.exit_code) == (2, 2)
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in told.stderr


def test_an_engine_that_is_not_there_cannot_be_saved(files: dict[str, str], tmp_path: Path) -> None:
    from trt_mpq.engine.shipping import save_copy
    from trt_mpq.errors import RunFolderError

    with pytest.raises(RunFolderError, match="there is no engine to save"):
        save_copy(tmp_path, tmp_path / "model.plan")
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "engine.plan").write_bytes(b"engine")
    save_copy(tmp_path, tmp_path / "model.plan")
    assert (tmp_path / "model.plan").read_bytes() == b"engine"
    with pytest.raises(RunFolderError, match="there is no folder"):
        save_copy(tmp_path, tmp_path / "none" / "model.plan")
