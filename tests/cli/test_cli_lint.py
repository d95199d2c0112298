"""`trt-mpq lint`: what it prints and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from tests.lint.cases import BROKEN, SOUND, Case
from trt_mpq.cli import app


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["lint", *arguments], env={"COLUMNS": "200"})


def saved(case: Case, folder: Path) -> str:
    path = folder / "network.onnx"
    ir.save(case.model(), path)
    return str(path)


def test_nothing_found(tmp_path: Path) -> None:
    done = invoke(saved(SOUND["plain"], tmp_path))
    assert (done.exit_code, done.stdout) == (0, "nothing found\n")


def test_warnings_end_with_0(tmp_path: Path) -> None:
    done = invoke(saved(BROKEN["blocked-epilogue"][0], tmp_path))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "warning blocked-epilogue (extra kernel): c_q",
        "    a quantizer between one and relu keeps them from fusing: move it behind relu or remove it",
        "1 warning",
    ]


def test_errors_end_with_2_and_are_counted(tmp_path: Path) -> None:
    done = invoke(saved(BROKEN["weak-type"][1], tmp_path))
    assert done.exit_code == 2
    assert done.stdout.splitlines()[0] == "error weak-type (refused): a_q"
    assert done.stdout.splitlines()[-1].startswith("1 error")
    assert done.stderr == ""


def test_a_finding_about_the_whole_file(tmp_path: Path) -> None:
    done = invoke(saved(BROKEN["mixed-formats"][0], tmp_path))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "note mixed-formats: the file"


def test_a_file_without_quantizers_is_told_so(tmp_path: Path) -> None:
    done = invoke(saved(BROKEN["no-quantizers"][0], tmp_path))
    assert done.exit_code == 0
    assert "no QuantizeLinear or DequantizeLinear" in done.stdout


def test_wrong_numbers_are_an_error_though_the_file_compiles(tmp_path: Path) -> None:
    done = invoke(saved(BROKEN["unsigned-codes"][0], tmp_path))
    assert done.exit_code == 2
    assert done.stdout.splitlines()[0] == "error unsigned-codes (wrong numbers): a_q"


def test_json_is_every_finding(tmp_path: Path) -> None:
    done = invoke(saved(BROKEN["zero-point"][0], tmp_path), "--json")
    assert done.exit_code == 2
    (finding,) = json.loads(done.stdout)
    assert finding.keys() == {"rule", "severity", "nodes", "tensors", "message"}
    assert (finding["rule"], finding["severity"], finding["nodes"]) == ("zero-point", "refused", ["a_q"])


def test_quiet_tells_by_the_exit_code_alone(tmp_path: Path) -> None:
    done = invoke(saved(BROKEN["zero-point"][0], tmp_path), "--quiet")
    assert (done.exit_code, done.output) == (2, "")


def test_help_explains_the_exit_code() -> None:
    assert "exit code 2" in " ".join(invoke("--help").stdout.split())


@pytest.mark.parametrize(
    ("content", "words"), [(None, "there is no model file"), (b"", "is empty"), (b"text", "cannot be read as ONNX")]
)
def test_what_is_no_model_is_refused_in_one_sentence(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    done = invoke(str(path))
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_reference_flavour_is_not_for_tensorrt(tmp_path: Path) -> None:
    reference = Case("[relu] y = Relu(x)", metadata={"trt_mpq.flavour": "reference"})
    done = invoke(saved(reference, tmp_path))
    assert done.exit_code == 2
    assert "made for ONNX Runtime: lint typed.onnx or weak.onnx" in done.stderr


def test_names_from_a_file_cannot_act(tmp_path: Path) -> None:
    model = BROKEN["zero-point"][0].model()
    for node in model.graph:
        if node.name == "a_q":
            node.name = "[red]\x1b[31mname"
    ir.save(model, tmp_path / "network.onnx")
    done = invoke(str(tmp_path / "network.onnx"))
    assert "\x1b" not in done.stdout
    assert "[red]" in done.stdout


def test_libraries_print_nothing_beside_the_sentence(tmp_path: Path) -> None:
    """onnx_ir would log that it invents an input for a name that nothing makes."""
    model = ir.to_proto(SOUND["plain"].model())
    model.graph.node[0].input[0] = "nobody's"
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())
    command = [sys.executable, "-m", "trt_mpq", "lint", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: .* is not sound ONNX: .* reads nobody's, which nothing makes: .*\n", done.stderr)
