"""Run folders: who reads them and who writes, what they say of themselves, and which are refused."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace

import pytest

from tests.artifacts.stores import SETTINGS, chain, changed, opened
from tests.runs import Recorder
from trt_mpq.artifacts.files import TEMPORARY, sha256_of
from trt_mpq.artifacts.stage import Stage
from trt_mpq.artifacts.store import Store, read_given, read_manifest, settings_of_run
from trt_mpq.errors import RunFolderError
from trt_mpq.types.observer import SilentObserver

# Workers, and the other half of a run.


def test_a_worker_reads_and_never_makes(stage, tmp_path):
    number, even, _ = chain(stage)
    opened(tmp_path)[number]
    worker = opened(tmp_path, writable=False)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert worker[number] == 32
    with pytest.raises(RunFolderError, match=r"worker does not find stage 'even' in .*must see the same files"):
        worker[even]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_the_other_half_takes_what_lies_there_and_goes_on(stage, tmp_path):
    """Without what the first half was made from; and what it makes is found there by the first half again."""
    number, even, _ = chain(stage)
    there = opened(tmp_path / "a")
    there[number]
    (tmp_path / "a").rename(tmp_path / "b")
    here = Store(tmp_path / "b", changed(batch=7), SilentObserver(), given={"number": "inspect"})
    given = replace(number, needs=(Stage("gone", lambda job: 1 / 0),))
    assert here[replace(even, make=lambda job: job[given] > 0, needs=(given,))] is True
    assert opened(tmp_path / "b", locked=False)[even] is True
    assert stage.made == ["number"]


def test_what_the_first_half_did_not_make_is_one_sentence(stage, tmp_path):
    number, *_ = chain(stage)
    store = Store(tmp_path, SETTINGS, SilentObserver(), given={"number": "calibrate"})
    with pytest.raises(RunFolderError, match=rf"number.json is missing: run `trt-mpq calibrate {tmp_path}` first"):
        store[number]
    (tmp_path / "number.json").write_text('"many"')
    with pytest.raises(RunFolderError, match=r"number.json is damaged or from another version: run `trt-mpq calib"):
        read_given(number, tmp_path, "calibrate")


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", unsupported)
    observer = Recorder()
    opened(tmp_path, observer=observer)
    assert observer.events == [
        f"note {tmp_path} is on a file system without locks: let one command work on it at a time"
    ]


# The manifest, and folders that are refused.


def test_the_manifest_says_what_was_done(stage, tmp_path):
    number, *_ = chain(stage)
    store = opened(tmp_path / "run", changed(seed=3))
    store.describe(source="m.onnx", command="trt-mpq build", environment={"python": "3"})
    store[number]
    content = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert content["source_sha256"] == "abc"
    assert (content["source"], content["command"], content["seed"]) == ("m.onnx", "trt-mpq build", 3)
    assert content["settings"]["seed"] == 3
    assert content["environment"] == {"python": "3"}
    assert content["stages"]["number"]["files"] == {"number.json": sha256_of(tmp_path / "run" / "number.json")}
    assert settings_of_run(tmp_path / "run") == content["settings"]


def test_another_models_folder_is_refused_by_the_name_of_its_model(tmp_path):
    opened(tmp_path).describe(source="m.onnx", command="", environment={})
    with pytest.raises(RunFolderError, match=rf"{tmp_path} belongs to another model \(m.onnx\): choose another folder"):
        opened(tmp_path, digest="def")
    with pytest.raises(RunFolderError, match="belongs to another model"):
        opened(tmp_path, digest="def", writable=False)


@pytest.mark.parametrize("name", ["mine.onnx", "samples.npz", "plan.json", ".profile", "data/eval.npz"])
def test_a_folder_with_files_of_somebody_else_is_refused_and_untouched(tmp_path, name):
    mine = tmp_path / "run" / name
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"precious")
    with pytest.raises(RunFolderError, match=rf"not empty, it holds {name.partition('/')[0]}: choose"):
        opened(tmp_path / "run")
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [mine]
    assert mine.read_bytes() == b"precious"


def test_somebody_elses_manifest_makes_no_run_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text('{"name": "a web page"}', encoding="utf-8")
    with pytest.raises(RunFolderError, match="or no run's: choose another folder with -o"):
        opened(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["manifest.json"]


def test_a_folder_claimed_by_a_run_that_was_killed_at_once_goes_on(tmp_path, stage):
    opened(tmp_path / "run")
    assert opened(tmp_path / "run")[stage("number", lambda job: 3)] == 3


@pytest.mark.parametrize("name", ["run.lock", "evaluations.jsonl", "engine"])
def test_nothing_is_written_through_a_symbolic_link(tmp_path, name):
    opened(tmp_path / "run").describe(source="m.onnx", command="", environment={})
    mine = tmp_path / "mine"
    mine.write_bytes(b"precious")
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(mine)
    with pytest.raises(RunFolderError, match=rf"{name} is a symbolic link, through which a run would write outside"):
        opened(tmp_path / "run")
    assert mine.read_bytes() == b"precious"


def test_what_a_killed_run_left_half_written_is_swept_away(tmp_path):
    opened(tmp_path / "run").describe(source="m.onnx", command="", environment={})
    left = tmp_path / "run" / f"{TEMPORARY}model.onnx.abcd1234"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    (tmp_path / "run" / f"{TEMPORARY}plan.json.abcd1234.json").write_bytes(b"half")
    opened(tmp_path / "run")
    assert not list((tmp_path / "run").glob(f"{TEMPORARY}*"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"source_sha256": 3}',
        b'{"source_sha256": "abc", "stages": {"s": 1}}',
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"manifest.json is damaged, or no run's: choose another folder with -o"):
        opened(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("x", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"cannot write .*run \(File exists\): choose another folder"):
        opened(tmp_path / "run")


def test_a_folder_that_is_not_writable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(RunFolderError, match=r"is not writable: choose another folder with -o"):
        opened(tmp_path)


def test_a_folder_under_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"cannot write .* \(Not a directory\)"):
        opened(tmp_path / "file" / "run")


def test_no_manifest_is_no_error(tmp_path):
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "absent") is None
    with pytest.raises(RunFolderError, match="is no run folder: make one with `trt-mpq inspect MODEL -o"):
        settings_of_run(tmp_path)
