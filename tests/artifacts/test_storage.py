"""Whole files or none, and a run folder that knows what is still good."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.artifacts.files import (
    Manifest,
    RunFolder,
    atomic_path,
    from_json,
    key_of,
    read_manifest,
    sha256_of,
    to_json,
    to_stored_json,
    write_text,
)
from trt_mpq.errors import RunFolderError
from trt_mpq.types import Evaluation, Precision, PrecisionPlan, Ranking, Score, SearchResult

FULL = OSError(errno.ENOSPC, "No space left on device")


class Crash(BaseException):
    """What a kill looks like from the inside."""


# Atomic writes.


def test_a_file_is_written_whole_and_readable_by_others(tmp_path):
    write_text(tmp_path / "a.json", "héllo\n")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "héllo\n"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [Crash(), KeyboardInterrupt(), ValueError("bug")])
def test_a_crash_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(type(error)), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the ne", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def refuse(*args, **kwargs):
        raise FULL

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(RunFolderError, match=rf"the disk is full, {path} was not written: free some space") as caught:
        write_text(path, "new")
    assert caught.value.__cause__ is FULL
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_a_full_disk_at_the_last_moment_is_noticed(tmp_path, monkeypatch):
    def refuse(handle):
        raise FULL

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunFolderError, match="the disk is full"):
        write_text(tmp_path / "a.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_one_sentence(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot write .*missing.* \(No such file or directory\): choose another"):
        write_text(tmp_path / "missing" / "a.json", "x")


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    script = f"""
        import os, signal
        from pathlib import Path
        from trt_mpq.artifacts.files import atomic_path
        with atomic_path(Path({str(path)!r})) as temporary:
            temporary.write_text("half of the ne")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert process.returncode == -9
    assert path.read_text(encoding="utf-8") == "old"


# Keys and JSON.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_keys_are_equal_exactly_if_the_parts_are(a, b):
    assert (key_of(a) == key_of(b)) == (json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))


def test_keys_depend_on_order_and_on_where_parts_end():
    assert len({key_of("a", "b"), key_of("b", "a"), key_of("ab"), key_of("ab", ""), key_of(["a", "b"])}) == 5


def test_a_search_result_survives_json():
    plan = PrecisionPlan.of({"a": Precision.INT8, "b": Precision.FP16})
    tried = Evaluation(plan, Score(0.1 + 0.2, None, 100), 1 / 3, True, "uniform")
    result = SearchResult("greedy", (Precision.FP16, Precision.INT8), tried, (tried,))
    assert from_json(to_json(result, SearchResult), SearchResult) == result


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), float("nan"), 1e-300, 0.1 + 0.2])
def test_our_own_files_keep_every_number(score):
    ranking = Ranking("noise", 0, ("a",), {Precision.INT8: {"a": score}})
    found = from_json(to_stored_json(ranking, Ranking), Ranking).scores[Precision.INT8]["a"]
    assert found == score or (found != found and score != score)


def test_json_for_others_has_no_words_that_json_lacks():
    ranking = Ranking("noise", 0, ("a",), {Precision.INT8: {"a": float("nan")}})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads(to_json(ranking, Ranking), parse_constant=refuse)["scores"] == {"int8": {"a": None}}


# The run folder.


def note(folder: RunFolder, text: str, calls: list[str]):
    def compute() -> None:
        calls.append(text)
        write_text(folder.path / "out.txt", text)

    return compute


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run", "abc")
    describe(folder)
    return folder


def describe(folder: RunFolder) -> None:
    folder.describe(source="m.onnx", settings={"seed": 1}, command="trt-mpq build", seed=1, environment={"python": "3"})


def test_the_manifest_says_what_was_done(folder):
    folder.stage("first", "key", ("out.txt",), note(folder, "x", []))
    content = json.loads((folder.path / "manifest.json").read_text(encoding="utf-8"))
    assert content["source_sha256"] == "abc"
    assert content["source"] == "m.onnx"
    assert content["settings"] == {"seed": 1}
    assert content["command"] == "trt-mpq build"
    assert content["environment"] == {"python": "3"}
    assert content["stages"]["first"]["files"] == {"out.txt": sha256_of(folder.path / "out.txt")}


def test_a_finished_stage_is_not_done_again_even_in_another_process(folder):
    calls: list[str] = []
    assert folder.stage("s", "key", ("out.txt",), note(folder, "x", calls))
    assert not folder.stage("s", "key", ("out.txt",), note(folder, "x", calls))
    again = RunFolder(folder.path, "abc")
    describe(again)
    assert not again.stage("s", "key", ("out.txt",), note(again, "x", calls))
    assert calls == ["x"]


@pytest.mark.parametrize("damage", ["changed", "absent", "other inputs"])
def test_a_stage_is_done_again_if(folder, damage):
    calls: list[str] = []
    folder.stage("s", "key", ("out.txt",), note(folder, "x", calls))
    if damage == "changed":
        (folder.path / "out.txt").write_text("y", encoding="utf-8")
    if damage == "absent":
        (folder.path / "out.txt").unlink()
    key = "other key" if damage == "other inputs" else "key"
    assert folder.stage("s", key, ("out.txt",), note(folder, "z", calls))
    assert calls == ["x", "z"]
    assert (folder.path / "out.txt").read_text(encoding="utf-8") == "z"


def test_going_back_to_old_inputs_does_the_stage_again_because_its_file_is_another(folder):
    calls: list[str] = []
    for key in ("old", "new", "old"):
        folder.stage("s", key, ("out.txt",), note(folder, key, calls))
    assert calls == ["old", "new", "old"]


@pytest.mark.parametrize("moment", ["before the file", "after the file"])
def test_a_stage_that_crashed_is_done_again(folder, moment):
    def compute() -> None:
        if moment == "after the file":
            write_text(folder.path / "out.txt", "half")
        raise Crash

    with pytest.raises(Crash):
        folder.stage("s", "key", ("out.txt",), compute)
    calls: list[str] = []
    assert RunFolder(folder.path, "abc").stage("s", "key", ("out.txt",), note(folder, "x", calls))
    assert calls == ["x"]


def test_files_that_a_stage_may_leave_out_are_not_missed(folder):
    calls: list[str] = []
    files = ("out.txt", "out.txt.data")
    folder.stage("s", "key", files, note(folder, "x", calls))
    assert not folder.stage("s", "key", files, note(folder, "x", calls))


def test_seconds_are_those_of_the_run_that_did_the_work(folder):
    assert folder.seconds("s") == 0
    folder.stage("s", "key", ("out.txt",), note(folder, "x", []))
    assert RunFolder(folder.path, "abc").seconds("s") == folder.seconds("s") >= 0


# Refusals.


def test_another_models_folder_is_refused_by_the_name_of_its_model(folder):
    with pytest.raises(
        RunFolderError, match=rf"{folder.path} belongs to another model \(m.onnx\): choose another folder"
    ):
        RunFolder(folder.path, "def")


def test_a_folder_with_somebody_elses_onnx_files_is_refused_and_untouched(tmp_path):
    (tmp_path / "mine.onnx").write_bytes(b"precious")
    with pytest.raises(RunFolderError, match=r"holds ONNX files but no manifest.json: it is no run folder"):
        RunFolder(tmp_path, "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]


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
def test_a_damaged_manifest_is_one_sentence(folder, content):
    (folder.path / "manifest.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"manifest.json is damaged: delete the folder or choose another with -o"):
        RunFolder(folder.path, "abc")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("x", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"cannot write .*run \(File exists\): choose another folder"):
        RunFolder(tmp_path / "run", "abc")


def test_a_folder_that_is_not_writable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(RunFolderError, match=r"is not writable: choose another folder with -o"):
        RunFolder(tmp_path, "abc")


def test_a_folder_under_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"cannot write .* \(Not a directory\)"):
        RunFolder(tmp_path / "file" / "run", "abc")


def test_no_manifest_is_no_error(tmp_path):
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "absent") is None


def test_facts_about_unknown_settings_survive(tmp_path):
    folder = RunFolder(tmp_path, "abc")
    folder.describe(source="m", settings={"trials": None, "precisions": ["fp16"]}, command="", seed=0, environment={})
    manifest = read_manifest(tmp_path)
    assert isinstance(manifest, Manifest)
    assert manifest.settings == {"trials": None, "precisions": ["fp16"]}
