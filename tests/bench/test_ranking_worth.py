"""Searches with harms that are made up, and the tables of what rankings and ranges are worth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import ranges, ranking_worth
from bench.ranking_worth import MadeUp, Row, Task, searched, table
from bench.searches import Job
from bench.searches import Row as SearchRow
from tests.fixtures_groups import make_chain, make_grouping
from trt_mpq.types import Precision

FP16, INT8 = Precision.FP16, Precision.INT8


def test_scores_are_harms_and_the_luck_of_a_plan() -> None:
    grouping = make_grouping(make_chain(4))
    harm = {group.id: 2.0 for group in grouping.groups}
    wide, narrow = grouping.uniform(FP16), grouping.uniform(INT8)
    exact = MadeUp(harm, Task("exact", 8.0), draw=0)
    assert exact.score(wide).value == ranking_worth.FP32 / ranking_worth.SAMPLES
    assert exact.score(narrow).value == (ranking_worth.FP32 - 8) / ranking_worth.SAMPLES
    assert exact.delivered(narrow) == exact.score(narrow)
    lucky = MadeUp(harm, Task("lucky", 8.0, luck=50.0, of_file=50.0), draw=0)
    assert lucky.score(wide) == exact.score(wide)
    assert lucky.score(narrow) == lucky.score(narrow) != exact.score(narrow)
    assert MadeUp(harm, Task("lucky", 8.0, luck=50.0), draw=1).score(narrow) != lucky.score(narrow)
    assert lucky.delivered(wide) == exact.score(wide)
    assert lucky.delivered(narrow) == lucky.delivered(narrow) != lucky.score(narrow)


def test_without_luck_no_search_beats_the_best_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking_worth, "DRAWS", 1)
    rows = list(searched("resnet20", make_grouping(make_chain(8))))
    exact = [row for row in rows if row.task == ranking_worth.TASKS[0].name]
    assert [row.ranking for row in exact] == list(ranking_worth.RANKINGS)
    assert all(row.optimum - 1e-9 <= row.latency <= 1 for row in exact)
    assert rows[0].latency == pytest.approx(rows[0].optimum, rel=0.05), "it is told the truth"


def test_tables() -> None:
    row = Row("resnet20", "random", "exact", 0, 0.8, 0.6, 10)
    better = replace(row, ranking="the truth", latency=0.6)
    rows = [row, replace(row, draw=1, latency=1.0), better, replace(better, draw=1)]
    assert list(table(rows))[2:] == [
        "| resnet20 | exact | the best plan there is | 0.600 | 0.675 | 0.075 | |",
        "| resnet20 | exact | random | 0.900 | 1.000 | 0.000 | 10 |",
        "| resnet20 | exact | the truth | 0.600 | 0.675 | 0.075 | 10 |",
    ]
    job = Job("minilm", "int8-chosen", True, "ilp", "output-sqnr", 0.999)
    found = SearchRow(job, {"a": "int8", "b": "fp16"}, accuracy=1.0, latency=0.5, equivalents=3.0, evaluations=4)
    failed = SearchRow(replace(job, ladder="int8-mse"), failure="none")
    assert list(ranges.table([failed, found]))[2:] == [
        "| minilm | int8 | 0.999 | chosen | 100.00% | 0.500 | 1 int8, 1 fp16 | 3.0 | 4 |",
        "| minilm | int8 | 0.999 | mse | not reached | | | | |",
    ]
