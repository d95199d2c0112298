"""`trt-mpq export`: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trt_mpq.cli import app

HERE = "tests.export.networks"


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["export", *arguments], env={"COLUMNS": "200"})


def test_a_table_of_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    done = invoke(f"{HERE}:scaled", "-o", str(tmp_path / "net.onnx"), "--output-names", "doubled", "--dynamic", "x=1:w")
    assert done.exit_code == 0, done.output
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[0] == f"{tmp_path / 'net.onnx'}: opset 17, 1 parameters"
    assert "input   x        float32  batchxw" in lines
    assert "output  doubled  float32  batchxw" in lines
    assert [line.split() for line in lines[-4:-1]] == [["x", "3x8", "0"], ["x", "1x4", "0"], ["x", "4x12", "0"]]
    assert lines[-1] == "allowed: 0.0001 * max(|torch|, its RMS) + 0.0001"
    assert "Exporting to ONNX ..." in done.stderr


def test_json_is_the_whole_result(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    done = invoke(f"{HERE}:scaled", "-o", str(tmp_path / "net.onnx"), "--json", "--quiet", "--fixed-batch", "1")
    found = json.loads(done.stdout)
    assert found.keys() == {
        "source", "path", "sha256", "opset", "inputs", "outputs", "parameters", "checks"
    }  # fmt: skip
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 8], "batch_axis": 0}]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent_module:net"], "cannot be imported"),
        (["net.onnx"], "is nothing to export"),
        ([f"{HERE}:lost"], "raised ValueError: lost the weights"),
        ([f"{HERE}:scaled", "--inputs", "absent.npz"], "absent.npz"),
        ([f"{HERE}:scaled", "--dynamic", "x"], "write NAME=AXIS:SYMBOL"),
        ([f"{HERE}:scaled", "--output-names", "a,b"], "give one name for each"),
        ([f"{HERE}:nothing_is_a_number"], "holds NaN"),
    ],
)
def test_refusals_are_one_sentence(arguments: list[str], words: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    done = invoke(*arguments, "-o", str(tmp_path / "net.onnx"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert (done.stderr.count("\n"), done.stderr[:7]) == (1, "error: ")
    assert list(tmp_path.iterdir()) == []


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    done = invoke(f"{HERE}:scaled", "-o", str(tmp_path / "net.onnx"))
    assert done.exit_code == 2
    assert done.stderr.startswith("error: torch is not installed and the export needs it: run `pip install")
