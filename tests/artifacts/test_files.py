"""Whole files or none, keys, and values as JSON."""

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

from trt_mpq.artifacts.files import atomic_path, from_json, key_of, to_json, to_stored_json, write_text
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
