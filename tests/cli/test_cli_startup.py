"""The command line starts fast and everywhere: what it may import, and when."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Pydantic is not listed: Typer itself uses it from 0.29 on.
HEAVY = {
    "numpy", "scipy", "onnx", "onnx_ir", "onnxruntime", "polygraphy", "torch", "tensorrt", "pycuda", "ray", "jinja2",
    "sklearn", "PIL", "transformers", "rich.progress",
}  # fmt: skip
OPTIONAL = {"torch", "tensorrt", "pycuda", "sklearn", "PIL", "transformers", "ray"}
COMMANDS = (
    "build", "demo", "doctor", "inspect", "calibrate", "sensitivity", "search", "emit", "compare", "report",
    "engine", "measure", "bisect", "run", "triton", "lint", "export", "rebuild",
)  # fmt: skip


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_and_version_import_nothing_heavy() -> None:
    code = f"""
import sys
from trt_mpq.cli import app
for arguments in (["--help"], ["--version"], *([name, "--help"] for name in {COMMANDS})):
    try:
        app(arguments)
    except SystemExit as stop:
        assert not stop.code, (arguments, stop.code)
print("LOADED", *sorted({HEAVY} & set(sys.modules)))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]
    assert all(f" {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--version"], {"trt_mpq.settings", "trt_mpq.types", "rich"}),
        (["--help"], {"trt_mpq.settings", "trt_mpq.types"}),
        (["doctor", "--help"], {"trt_mpq.settings", "trt_mpq.types"}),
        (["build", "--help"], {"trt_mpq.cli.tables", "trt_mpq.report", "trt_mpq.artifacts", "trt_mpq.pipeline"}),
    ],
)
def test_options_are_made_from_the_settings_for_the_command_that_is_asked_for_alone(
    arguments: list[str], unused: set[str]
) -> None:
    code = f"""
import sys
from trt_mpq.cli import main
sys.argv = ["trt-mpq", *{arguments}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("LOADED", *sorted({unused} & set(sys.modules)))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]


def test_every_command_is_listed_in_its_place() -> None:
    done = python("import sys; sys.argv = ['trt-mpq', '--help']; from trt_mpq.cli import main; main()")
    listed = [line.strip("│ ").split()[0] for line in done.stdout.splitlines() if re.match(r"│ [a-z]", line)]
    assert sorted(listed) == sorted(COMMANDS)
    summaries = [done.stdout.index(name) for name in ("Start here", "Stages, each alone", "On the device", "For any")]
    assert summaries == sorted(summaries)


def test_settings_import_nothing_heavy() -> None:
    done = python(f"import sys, trt_mpq.settings; print(*sorted({HEAVY} & set(sys.modules)))")
    assert (done.returncode, done.stdout.split()) == (0, [])


def test_every_module_imports_without_optional_packages() -> None:
    code = f"""
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
import trt_mpq
for module in pkgutil.walk_packages(trt_mpq.__path__, "trt_mpq."):
    if module.name != "trt_mpq.__main__":
        importlib.import_module(module.name)
from trt_mpq.cli import main
sys.argv = ["trt-mpq", "--help"]
main()
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "trt-mpq" in done.stdout


def test_a_missing_optional_package_is_named_when_needed(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["sklearn"] = None
from trt_mpq.cli import main
sys.argv = ["trt-mpq", "demo", "-o", sys.argv[1]]
main()
"""
    done = python(code, str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stderr == (
        "error: scikit-learn is not installed and the demo needs it: run `pip install 'scikit-learn>=1.5'`\n"
    )
    assert not (tmp_path / "run").exists()


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trt_mpq", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("trt-mpq ")


def test_without_docstrings_there_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "trt_mpq", "build", "net.onnx"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Polygraphy and the help need docstrings: run without PYTHONOPTIMIZE=2")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--help"], ["build", "--help-all"], ["lint", "--help"]], ids=" ".join)
def test_a_reader_that_leaves_the_help_is_no_error(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "trt_mpq", *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
