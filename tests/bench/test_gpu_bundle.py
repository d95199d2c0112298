"""The folder for a host without network: complete, small, and installable without asking anyone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import gpu_bundle
from tests.runs import start, tiny_cnn, write_data
from trt_mpq.engine.handover import read_network, read_searched
from trt_mpq.errors import DataError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    files = write_data(tmp_path_factory.mktemp("data"), tiny_cnn())
    start(files, folder / "resnet20", latency="modelled").search()
    return folder


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of pip, which builds no wheel and asks no index."""
    calls: list[tuple[str, ...]] = []

    def record(*arguments: str) -> None:
        calls.append(arguments)
        if arguments[0] == "wheel":
            Path(arguments[arguments.index("--wheel-dir") + 1], "trt_mpq-0-py3-none-any.whl").touch()

    monkeypatch.setattr(gpu_bundle, "_pip", record)
    return calls


@pytest.fixture
def out(prepared: Path, tmp_path: Path, pip: list[tuple[str, ...]]) -> Path:
    wheel = tmp_path / "tensorrt-8.6.0-cp310-none-any.whl"
    wheel.touch()
    gpu_bundle.bundle(tmp_path / "out", prepared, "3.10", [wheel])
    return tmp_path / "out"


def test_a_prepared_network_can_be_read_there(prepared: Path, out: Path) -> None:
    source, copy = prepared / "resnet20", out / "prepared" / "resnet20"
    described = read_network(copy)
    assert described == read_network(source)
    assert read_searched(copy) == read_searched(source)
    network = described.network(copy)
    read_searched(copy).emitter(network, copy)
    assert described.samples(copy).count > 0
    assert (copy / described.original.path).is_file()
    assert not (copy / "evaluations.jsonl").exists()


@pytest.mark.parametrize("command", ["pytest -m gpu --collect-only -p no:cacheprovider tests/gpu", "bench.gpu --help"])
def test_the_tests_and_the_benchmark_are_complete(out: Path, command: str) -> None:
    """All they import is in the folder or installed: its packages hide those of the checkout."""
    found = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=out, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_bundle_is_made_anew_but_nothing_else_is_removed(tmp_path: Path, prepared: Path, out: Path) -> None:
    outdated, foreign = out / "tests" / "outdated.py", tmp_path / "foreign" / "tests" / "kept.py"
    for path in (outdated, foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for folder in (out, tmp_path / "foreign"):
        gpu_bundle.bundle(folder, prepared, "3.10", [])
    assert not outdated.exists()
    assert foreign.exists()


def test_wheels_are_for_the_python_of_the_host(out: Path, pip: list[tuple[str, ...]]) -> None:
    (download,) = [call for call in pip if call[0] == "download"]
    assert download[download.index("--python-version") + 1] == "3.10"
    assert {"pytest", "tomli", "nvidia-ml-py"} <= set(download)
    assert (out / "wheels" / "tensorrt-8.6.0-cp310-none-any.whl").exists()


def test_run_sh_is_a_script_that_installs_offline(out: Path) -> None:
    script = out / "run.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all("--no-index" in line for line in installs)
    assert "wheels/tensorrt-8.6.0-cp310-none-any.whl" in installs[1]
    assert text.index("bench.gpu platform") < text.index("pytest -m gpu") < text.index("bench.gpu measure prepared")


def test_what_is_absent_is_one_sentence(tmp_path: Path, prepared: Path, pip: list[tuple[str, ...]]) -> None:
    with pytest.raises(DataError, match=r"there is no wheel .*none\.whl"):
        gpu_bundle.bundle(tmp_path / "out", prepared, "3.10", [tmp_path / "none.whl"])
    with pytest.raises(DataError, match=r"run `python -m bench.gpu prepare"):
        gpu_bundle.bundle(tmp_path / "out", tmp_path, "3.10", [])
    assert pip == []
