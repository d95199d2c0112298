"""The GPU benchmark without a GPU: what it measures, and that a stopped run goes on where it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import gpu
from bench.gpu_measure import distinct
from bench.gpu_results import Measurement, Results, Row, read_results, results_file, write_results
from trt_mpq.errors import DataError, RunFolderError
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import BuildStatus, Platform

H200 = Platform("NVIDIA H200", 90, "10.16.1.11", "13.0", "580.95")
OPTIONS = EngineOptions(rounds=5)
KEY = "key"


def row(model: str, batch: int, failure: str = "", key: str = KEY) -> Row:
    engine = Measurement({"int8": 3}, "strong", BuildStatus.FAILED, 1.5, 0, reason="no kernel")
    return Row(model, batch, key, "2026-01-01T00:00:00+00:00", {"int8": engine}, {"searched": "int8"}, failure)


class FakeSubject:
    """Stands for a prepared network; counts its rows in `done` and is interrupted before row `stop`."""

    done: list[tuple[str, int]]
    stop: int | None = None

    def __init__(self, folder: Path, *_: object) -> None:
        self.name, self.key = folder.name, KEY

    def measure(self, batch: int) -> Row:
        if len(self.done) == self.stop:
            raise KeyboardInterrupt
        self.done.append((self.name, batch))
        return row(self.name, batch)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeSubject]:
    class Subject(FakeSubject):
        done: list[tuple[str, int]] = []  # noqa: RUF012 - one list per test

    monkeypatch.setattr(gpu, "Subject", Subject)
    monkeypatch.setattr(gpu, "this_platform", lambda: H200)
    monkeypatch.setattr(gpu, "formats_of", lambda platform: (Precision.INT8,))
    return Subject


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., Results]:
    """Measure two networks at two batch sizes; the results as they are on disk afterwards."""
    prepared, results = tmp_path / "prepared", tmp_path / "results"
    for name in ("resnet20", "resnet56"):
        (prepared / name).mkdir(parents=True)
        (prepared / name / "searched.json").touch()

    def run(names: list[str] | None = None, limit_s: float = math.inf) -> Results:
        gpu.measure_all(prepared, names, [1, 8], results, OPTIONS, limit_s)
        return read_results(results_file(results, H200), H200, OPTIONS)

    return run


ALL = [("resnet20", 1), ("resnet20", 8), ("resnet56", 1), ("resnet56", 8)]


def test_a_killed_run_keeps_its_rows_and_goes_on(
    fake: type[FakeSubject], measure: Callable[..., Results], tmp_path: Path
) -> None:
    fake.stop = 2
    with pytest.raises(KeyboardInterrupt):
        measure()
    kept = read_results(results_file(tmp_path / "results", H200), H200, OPTIONS)
    assert [(each.model, each.batch) for each in kept.rows] == ALL[:2]
    fake.stop = None
    assert [(each.model, each.batch) for each in measure().rows] == ALL
    assert fake.done == ALL


def test_what_is_measured_is_not_measured_again(fake: type[FakeSubject], measure: Callable[..., Results]) -> None:
    assert measure() == measure()
    assert fake.done == ALL


def test_no_row_begins_after_the_time_limit(
    fake: type[FakeSubject], measure: Callable[..., Results], capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_rows = measure(limit_s=-1.0).rows
    assert gpu_rows == ()
    assert "the same command goes on" in capsys.readouterr().out


def test_a_network_that_was_not_prepared_is_one_sentence(
    fake: type[FakeSubject], measure: Callable[..., Results]
) -> None:
    with pytest.raises(DataError, match=r"lacks resnet50-random: run `python -m bench.gpu prepare"):
        measure(["resnet20", "resnet50-random"])
    assert fake.done == []


def test_only_what_was_asked_for_is_measured(fake: type[FakeSubject], measure: Callable[..., Results]) -> None:
    assert {each.model for each in measure(["resnet56"]).rows} == {"resnet56"}


def test_without_the_data_only_the_random_network_is_prepared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared: list[str] = []
    monkeypatch.setattr(gpu, "DATA", tmp_path / "absent")
    monkeypatch.setattr(gpu, "prepare", lambda subject, *_: prepared.append(subject.name))
    gpu.prepare_all(tmp_path, None, 1)
    assert prepared == ["resnet50-random"]
    assert "TRT_MPQ_DATA" in capsys.readouterr().out


def test_results_survive_the_file_and_are_named_after_the_machine(tmp_path: Path) -> None:
    path = results_file(tmp_path, H200)
    assert path.name == "gpu-nvidia-h200-trt10.16.1.11.json"
    results = Results(H200, OPTIONS).with_row(row("b", 8)).with_row(row("a", 32)).with_row(row("b", 1))
    write_results(path, results)
    assert read_results(path, H200, OPTIONS) == results
    assert [(each.model, each.batch) for each in results.rows] == [("a", 32), ("b", 1), ("b", 8)]


def test_a_row_is_measured_again_if_it_failed_or_was_made_otherwise() -> None:
    results = Results(H200, OPTIONS).with_row(row("a", 1, failure="out of memory")).with_row(row("a", 8))
    assert not results.has("a", 1, KEY)
    assert results.has("a", 8, KEY)
    assert not results.has("a", 8, "another key")
    assert results.with_row(row("a", 1)).has("a", 1, KEY)
    assert len(results.with_row(row("a", 1)).rows) == 2


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    path = results_file(tmp_path, H200)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(RunFolderError, match="move it away"):
        read_results(path, H200, OPTIONS)


def test_equal_plans_are_built_once() -> None:
    fp16, int8 = (PrecisionPlan((("a", precision),)) for precision in (Precision.FP16, Precision.INT8))
    assert distinct({"fp16": fp16, "int8": int8, "searched": int8, "other": fp16}) == (
        {"fp16": fp16, "int8": int8},
        {"searched": "int8", "other": "fp16"},
    )
