"""Scores that are remembered: taken over from other files, each once."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.evaluate.cache import CachedScore, ScoreCache, take_over
from trt_mpq.types import Score


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
