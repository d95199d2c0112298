"""Rows of searches: run on, restated without an evaluation, and as tables."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench import four_bits, paper_table
from bench.real import RealModel
from bench.searches import Bench, Job, Row, progress, run_jobs, table
from tests.runs import tiny_cnn, write_data

JOB = Job("tiny", "fp16,int8", False, "ilp", "output-sqnr", 0.98)


def settings(job: Job) -> Mapping[str, Any]:
    return {"precisions": job.ladder.split(","), "calibration": "mse", "bias_correction": job.refined}


def jobs(model: str, samples: int | None) -> Iterator[Job]:
    yield JOB


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    data = write_data(tmp_path, tiny_cnn())
    (tmp_path / "results").mkdir()
    model = RealModel("tiny", data["model"], data["calib"], data["eval"], 100, 100, 8)
    return Bench("of_a_test", {"tiny": model}, jobs, settings, "refined", "l4", ("t4",), tmp_path)


def test_rows_say_what_refinement_did(bench: Bench) -> None:
    row = bench.measure(replace(JOB, refined=True))
    assert row.refinement
    assert all(step.startswith("bias correction, int8: ") and "0.00%" not in step for step in row.refinement)


def test_a_row_that_is_there_is_not_measured_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run_jobs(bench, [JOB])
    (row,) = bench.measured()
    assert row.plan
    assert (row.accuracy or 0) >= 0.98
    monkeypatch.setattr(Bench, "measure", lambda *_: pytest.fail("it is measured"))
    run_jobs(bench, [JOB])
    assert bench.measured() == [row]


def test_plans_are_restated_as_they_are_modelled_now_without_an_evaluation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = bench.measure(JOB)
    old = replace(row, latency=9.0, others={}, size=9.0)
    monkeypatch.setattr("trt_mpq.evaluate.plans.PlanEvaluator.score", lambda *_: pytest.fail("it is evaluated"))
    assert bench.restated(old) == row


def test_a_plan_of_other_groups_is_left_as_it_was(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    old = Row(JOB, {"renamed": "int8"}, accuracy=1.0, latency=0.5)
    assert bench.restated(old) == old
    assert "not restated" in capsys.readouterr().out


def test_it_is_said_how_many_rows_of_all_there_are(bench: Bench) -> None:
    assert progress(bench, []) == "Rows that are there: tiny 0 of 1."
    others = Row(replace(JOB, samples=50)), Row(replace(JOB, metric="noise")), Row(replace(JOB, objective="size"))
    assert progress(bench, others) == "Rows that are there: tiny 1 of 1."


def test_a_search_for_the_least_size_stands_apart(bench: Bench) -> None:
    row = bench.measure(replace(JOB, objective="size"))
    assert row.failure is None
    lines = [line for line in table(bench, [row, replace(row, job=JOB)]) if line.startswith("#")]
    title = "### tiny, ladder fp16,int8, without refinement, target 0.98 of FP32"
    assert lines == [title, f"{title}, least size"]


def test_the_table_says_of_which_rows_the_latency_is_as_old_as_they_are(bench: Bench) -> None:
    kept = Row(
        JOB, {"a": "int8", "b": "int8", "c": "fp16"}, {"int8": 0.97}, ["GPTQ"], 0.99, 0.5, 0.6, {"t4": 0.7}, 0.5, 3.0, 4
    )
    older = replace(kept, job=replace(JOB, metric="noise"), plan={}, uniform={})
    missed = Row(replace(JOB, metric="fisher"), failure="no plan keeps it")
    lines = list(table(bench, [older, kept, missed]))
    assert lines[1] == "### tiny, ladder fp16,int8, without refinement, target 0.98 of FP32"
    assert "Uniform plans: int8 97.00%." in lines
    assert "- GPTQ" in lines
    assert "| ilp | output-sqnr | 2 int8, 1 fp16 | 99.00% | 0.500 | 0.600 | 0.700 | 3.0 | 4 |" in lines
    assert "| ilp | noise | 50% lowered | 99.00% | 0.500 | 0.600° | 0.700 | 3.0 | 4 |" in lines
    assert "| ilp | fisher | not reached |  |  |  |  |  |  |" in lines
    titles = next(line for line in lines if line.startswith("| search"))
    assert {line.count("|") for line in lines if line.startswith("|")} == {titles.count("|")}


def test_random_rankings_are_one_line_of_means(bench: Bench) -> None:
    drawn = [replace(JOB, metric="random", seed=seed) for seed in range(2)]
    seeds = [Row(job, {"a": "int8"}, {}, [], 1, 0.5, 0.4 + job.seed / 5, {"t4": 1.0}, 1.0, 2.0, 3) for job in drawn]
    (line,) = (line for line in table(bench, seeds) if "random" in line)
    assert line == "| ilp | random (mean of 2) | 100% lowered | 100.00% | 0.500 | 0.500 | 1.000 | 2.0 | 3 |"


@pytest.mark.parametrize("bench", [paper_table.BENCH, four_bits.BENCH], ids=lambda bench: bench.name)
def test_the_rows_that_are_kept_are_of_jobs_that_the_bench_has(bench: Bench) -> None:
    """A change of jobs that forgets the rows would measure them anew, for hours, and leave these behind."""
    for row in bench.measured():
        known = set(bench.jobs(row.job.model, row.job.samples))
        assert row.job in known
        assert row.failure is not None or (row.accuracy is not None and row.accuracy >= row.job.target)


@pytest.mark.parametrize("bench", [paper_table.BENCH, four_bits.BENCH], ids=lambda bench: bench.name)
def test_benches_go_to_other_processes(bench: Bench) -> None:
    assert pickle.loads(pickle.dumps(bench)).settings is bench.settings


def test_a_row_is_read_as_it_was_written(bench: Bench) -> None:
    row = Row(JOB, {"a": "int8"}, {"int8": 1.0}, ["GPTQ"], 1.0, 0.5, 0.4, {"t4": 1.0}, 1.0, 2.0, 3)
    bench.rows.write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")
    assert bench.measured() == [row]
