"""A run done again from its manifest gives the same bytes, or says what differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.runs import Recorder, start, tiny_cnn, write_data
from trt_mpq.api.rebuild import rebuild
from trt_mpq.errors import RebuildDiffers, RunFolderError

FILES = ("plan.json", "typed.onnx", "reference.onnx", "weak.onnx", "search.json", "ranges.json")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn())


@pytest.fixture(scope="module")
def done(files, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("done") / "run"
    start(files, folder).report()
    return folder


def test_the_manifest_alone_gives_the_same_bytes(done, tmp_path) -> None:
    copied = tmp_path / "mail" / "manifest.json"
    copied.parent.mkdir()
    shutil.copy(done / "manifest.json", copied)
    found = rebuild(copied, {}, tmp_path / "again", Recorder())
    assert set(found.files) >= set(FILES)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (done / name).read_bytes(), name


def test_data_that_changed_is_named(files, done, tmp_path) -> None:
    data = dict(np.load(files["calib"]))
    data["input"][0] *= 2
    np.savez(tmp_path / "calib.npz", **data)
    given = {"calib": str(tmp_path / "calib.npz")}
    with pytest.raises(RebuildDiffers, match=r"again is not what .*manifest.json is of: the calib data is another$"):
        rebuild(done / "manifest.json", given, tmp_path / "again", Recorder())


def test_data_that_moved_is_the_same(files, done, tmp_path) -> None:
    given = {name: str(shutil.copy(files[name], tmp_path / Path(files[name]).name)) for name in files}
    assert "typed.onnx" in rebuild(done, given, tmp_path / "again", Recorder()).files


def test_another_version_and_the_first_file_that_differs_are_named(done, tmp_path) -> None:
    manifest = json.loads((done / "manifest.json").read_text(encoding="utf-8"))
    manifest["environment"]["onnxruntime"] = "0.1"
    manifest["stages"]["ranges"]["files"]["ranges.json"] = "f" * 64
    manifest["stages"]["delivery"]["files"]["typed.onnx"] = "f" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(
        RebuildDiffers, match=r"ranges.json differs, and 1 that follow from it \(made with onnxruntime 0.1"
    ):
        rebuild(tmp_path / "manifest.json", {}, tmp_path / "again", Recorder())


def test_what_is_no_delivered_run_and_the_folder_of_the_run_are_refused(files, done, tmp_path) -> None:
    start(files, tmp_path / "half").calibrate()
    with pytest.raises(RunFolderError, match="is of no run that was delivered"):
        rebuild(tmp_path / "half" / "manifest.json", {}, tmp_path / "again", Recorder())
    with pytest.raises(RunFolderError, match="choose another folder with -o"):
        rebuild(done / "manifest.json", {}, done, Recorder())
