"""Scores that are remembered on disk, and taken over from other files, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_mpq.errors import RunFolderError
from trt_mpq.evaluate.cache import CachedScore, ScoreCache, take_over
from trt_mpq.types import Score

SCORED = CachedScore(Score(0.5, 0.01, 100), 1.25)


def test_a_score_is_remembered_on_disk(path):
    ScoreCache(path, "context").put("plan", SCORED)
    assert ScoreCache(path, "context").get("plan") == SCORED
    assert ScoreCache(path, "context").get("other plan") is None


def test_every_bit_of_a_score_is_kept(path):
    score = Score(1 / 3, None, 7)
    ScoreCache(path, "c").put("plan", CachedScore(score, 0.1))
    assert ScoreCache(path, "c").get("plan").score == score


def test_contexts_do_not_see_each_other(path):
    ScoreCache(path, "a").put("plan", SCORED)
    other = CachedScore(Score(0.9, None, 5), 2.0)
    ScoreCache(path, "b").put("plan", other)
    assert ScoreCache(path, "a").get("plan") == SCORED
    assert ScoreCache(path, "b").get("plan") == other
    assert ScoreCache(path, "c").get("plan") is None


@pytest.mark.parametrize("kept", range(1, 30, 4))
def test_a_line_cut_short_loses_that_line_only(path, kept):
    cache = ScoreCache(path, "c")
    cache.put("one", SCORED)
    whole = path.read_bytes()
    cache.put("two", SCORED)
    path.write_bytes(path.read_bytes()[: len(whole) + kept])

    resumed = ScoreCache(path, "c")
    assert resumed.get("one") == SCORED
    assert resumed.get("two") is None
    resumed.put("three", SCORED)
    again = ScoreCache(path, "c")
    assert [again.get(plan) for plan in ("one", "two", "three")] == [SCORED, None, SCORED]


@pytest.mark.parametrize("line", [b"12", b"null", b"{}", b'["c"]', b"\xff\xfe", b'["c", "p", 1, 2, 3, 4, 5]', b""])
def test_foreign_lines_are_ignored(path, line):
    path.write_bytes(line + b"\n")
    cache = ScoreCache(path, "c")
    cache.put("plan", SCORED)
    assert ScoreCache(path, "c").get("plan") == SCORED


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    cache = ScoreCache(tmp_path / "absent" / "evaluations.jsonl", "c")
    with pytest.raises(RunFolderError, match=r"cannot write .*evaluations.jsonl \(No such file or directory\)"):
        cache.put("plan", SCORED)
    assert cache.get("plan") is None, "what is not on disk would be lost on resume"


def test_a_known_score_is_not_measured_again(path):
    calls: list[str] = []

    def measure() -> Score:
        calls.append("measured")
        return Score(0.25, None, 4)

    first = ScoreCache(path, "c").remember("plan", measure)
    second = ScoreCache(path, "c").remember("plan", measure)
    assert calls == ["measured"]
    assert first.score == second.score == Score(0.25, None, 4)
    assert second.seconds >= 0


def test_an_interrupted_measurement_is_not_remembered(path):
    def interrupt() -> Score:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ScoreCache(path, "c").remember("plan", interrupt)
    assert not path.exists()


# Taken over.


def scored(path: Path, context: str, **values: float) -> None:
    cache = ScoreCache(path, context)
    for plan, value in values.items():
        cache.put(plan, CachedScore(Score(value, None, 4), 0.5))


def test_lines_that_a_file_lacks_are_appended_once(tmp_path: Path) -> None:
    own, other, third = (tmp_path / name for name in ("own", "other", "third"))
    scored(own, "a", p=0.5)
    scored(other, "a", p=0.5, q=0.25)
    scored(third, "b", r=1.0)
    with own.open("ab") as file:
        file.write(b'["a", "cut sh')
    for _ in range(2):
        take_over(own, [other, third, tmp_path / "absent"])
    assert len(own.read_bytes().splitlines()) == 4
    known = ScoreCache(own, "a")
    assert [known.get(plan) and known.get(plan).score.value for plan in "pqr"] == [0.5, 0.25, None]  # type: ignore[union-attr]
    assert ScoreCache(own, "b").get("r") is not None
    assert known.seconds("p", "q") == 1.0


def test_a_file_that_is_not_there_begins_with_the_others(tmp_path: Path) -> None:
    scored(tmp_path / "other", "a", p=0.5)
    take_over(tmp_path / "own", [tmp_path / "other"])
    assert (tmp_path / "own").read_bytes() == (tmp_path / "other").read_bytes()
    take_over(tmp_path / "none", [])
    assert not (tmp_path / "none").exists()
