"""Fixtures of tests on engines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.engine.deployments import MODELLED, Command, Searched
from tests.engine.keys import Keys, make_keys
from tests.runs import slow_device, start, tiny_cnn, write_data
from trt_mpq.cli import app


@pytest.fixture
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def searched_once(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    home = tmp_path_factory.mktemp("searched")
    files = {**write_data(home, tiny_cnn()), "device": slow_device(home / "slow.toml")}
    start(files, home / "run", **MODELLED).report()
    return Searched(home / "run", files)


@pytest.fixture
def searched(searched_once: Searched, tmp_path: Path) -> Searched:
    """A copy of it to work in."""
    return Searched(Path(shutil.copytree(searched_once.folder, tmp_path / "run")), searched_once.files)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs trt-mpq and gives what it prints."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def travelled(searched: Searched, tmp_path: Path) -> Path:
    """A run folder on a machine that has neither the model nor the data."""
    folder = tmp_path / "elsewhere" / "run"
    shutil.copytree(searched.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("model", "calib", "eval"):
        manifest["settings"][name] = f"/nowhere/{name}.npz"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
