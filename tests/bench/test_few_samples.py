"""Plans from eight calibration samples: what the committed rows say, and the table that is made of rows."""

from __future__ import annotations

import json

from bench.few_samples import DEFAULT, METHODS, RESULTS, TASKS, Row, table


def rows() -> list[Row]:
    return [Row(**row) for row in json.loads((RESULTS / "few-samples.json").read_text(encoding="utf-8"))]


def test_the_default_ruins_no_plan() -> None:
    """On every network it lowers nearly as many groups as the method that lowers most, whichever that is."""
    lowered = {(row.task, row.methods): row.lowered or 0 for row in rows()}
    assert set(lowered) == {(task.name, methods) for task in TASKS for methods in METHODS}
    for task in TASKS:
        assert lowered[task.name, DEFAULT] >= max(lowered[task.name, methods] for methods in METHODS) - 1
    assert any(lowered[task.name, DEFAULT] > 2 * lowered[task.name, own] for task in TASKS for own in METHODS[1:])


def test_the_table_is_that_of_the_rows() -> None:
    assert (RESULTS / "few-samples.md").read_text(encoding="utf-8") == table(rows())


def test_a_search_that_finds_no_plan_has_a_line() -> None:
    *_, line = table([Row("digits", "mse", None)]).splitlines()
    assert line == "| digits, sqnr 0.9999 | mse |  | no plan |  |  |"
