"""Whole runs with workers: the same as alone, whoever is killed, and however often."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from tests.runs import QUICK, Recorder, start, tiny_cnn, write_data
from tests.workers.work import soon, workers_of
from trt_mpq.errors import MetricError, RunFolderError
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types.observer import Progress
from trt_mpq.workers.processes import Processes

SAME = (
    "ranges.json",
    "corrections.npz",
    "sensitivity.json",
    "search.json",
    "plan.json",
    "typed.onnx",
    "reference.onnx",
)
FULL = {"precisions": "fp8,int8", "sensitivity": "noise,dependency,output-sqnr"}
EARLY = {"precisions": "int8,int4", "target_accuracy": 0.998, "search": "greedy", "equalize": True}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn(), evaluation=1000)


def outcome(folder: Path) -> dict[str, bytes]:
    """The files that tell what a run decided."""
    found = {path.name: path.read_bytes() for path in folder.glob("sensitivity*.json")}
    return found | {name: (folder / name).read_bytes() for name in SAME}


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory) -> dict[str, bytes]:
    """What a run of one process decides."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run = start(files, folder, **FULL)
    run.sensitivities()
    run.emit()
    return outcome(folder)


def test_two_workers_decide_what_one_process_does(files, alone, tmp_path):
    observer = Recorder()
    run = start(files, tmp_path / "run", observer, workers=2, **FULL)
    run.sensitivities()
    run.emit()
    assert outcome(tmp_path / "run") == alone
    assert [event for event in observer.events if event.startswith("Sensitivity (noise)")] == [
        f"Sensitivity (noise) {done}/4" for done in (1, 2, 3, 4)
    ]


def test_plans_are_judged_early_just_the_same(files, tmp_path):
    one, two = Recorder(), Recorder()
    start(files, tmp_path / "one", one, **EARLY).emit()
    start(files, tmp_path / "two", two, workers=2, **EARLY).emit()
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two")
    assert one.evaluations == two.evaluations
    assert not all(evaluation.complete for evaluation in two.evaluations)


class Assassin(Recorder):
    """Kills a worker at the first progress of every stage, and at every plan."""

    victims = 0

    @contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        with super().stage(title) as progress:

            def strike(done: int, total: int) -> None:
                if done == 1:
                    self._strike()
                progress(done, total)

            yield strike

    def evaluated(self, evaluation, metric, required) -> None:
        super().evaluated(evaluation, metric, required)
        self._strike()

    def _strike(self) -> None:
        for victim in workers_of(os.getpid())[:1]:
            os.kill(victim, signal.SIGKILL)
            self.victims += 1


def test_killed_workers_lose_nothing(files, alone, tmp_path):
    observer = Assassin()
    run = start(files, tmp_path / "run", observer, workers=2, **FULL)
    run.sensitivities()
    run.emit()
    assert observer.victims > 5
    assert outcome(tmp_path / "run") == alone


def test_a_sentence_of_a_worker_is_that_of_one_process(files, tmp_path, monkeypatch):
    (tmp_path / "grumpy.py").write_text(
        "calls = []\ndef score(outputs, labels):\n    calls.append(1)\n"
        "    return 1.0 if len(calls) < 2 else 'rubbish'\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run = start(files, tmp_path / "run", workers=2, metric="grumpy:score", precisions="int8")
    with pytest.raises(MetricError):
        run.search()


def test_interrupted_with_workers_and_resumed_without(files, alone, tmp_path):
    for point in (8, 14, 17):
        with pytest.raises(KeyboardInterrupt):
            start(files, tmp_path / "run", Recorder(interrupt_at=point), workers=2, **FULL).emit()
        gc.collect()  # the run goes, as it does where the process ends
        assert not workers_of(os.getpid())
    run = start(files, tmp_path / "run", **FULL)
    run.sensitivities()
    run.emit()
    assert outcome(tmp_path / "run") == alone


def test_a_worker_only_reads(files, tmp_path):
    start(files, tmp_path / "run").inspect()
    settings = settings_from({**files, **QUICK}, "test")
    worker = Run(settings, tmp_path / "run", Recorder(), command=None)
    assert len(worker.inspect().groups) == 4
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    with pytest.raises(RunFolderError, match="a worker does not find stage 'fp32'"):
        worker.calibrate()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}


def test_another_process_is_refused_while_one_works_in_the_folder(files, tmp_path):
    run = start(files, tmp_path / "run")
    command = [sys.executable, "-m", "trt_mpq", "inspect", files["model"], "-o", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"is being worked on by process {os.getpid()}" in done.stderr
    del run


# Killed whole.


def killed_again_and_again(
    how: signal.Signals, folder: Path, kills: int, events: int, **fields: object
) -> tuple[list[Path], int, str]:
    """Run folders in which runs were ended, `kills` times in all, the last one last.

    Also how many workers they had, and what they said.
    """
    arguments = [how.name, str(folder), str(kills), str(events), json.dumps({**QUICK, **fields})]
    command = [sys.executable, "-m", "tests.workers.killed", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    return sorted(folder.iterdir(), key=lambda path: int(path.name)), int(done.stdout), done.stderr


@pytest.mark.usefixtures("hears_hangups")
@pytest.mark.parametrize(
    ("how", "kills", "workers"),
    [
        (signal.SIGKILL, 20, 1),
        (signal.SIGTERM, 20, 1),
        (signal.SIGHUP, 20, 1),
        (signal.SIGKILL, 3, 2),
        (signal.SIGTERM, 3, 2),
    ],
)
def test_signals_at_random_moments_change_nothing_and_leave_no_orphan(tmp_path, how, kills, workers):
    files, whole, observer = write_data(tmp_path, tiny_cnn()), tmp_path / "whole", Recorder()
    ranked = {"precisions": "int8", "sensitivity": "noise,output-sqnr"}  # to compare them both are made in any case
    start(files, whole, observer, **ranked).report()
    events = sum(not event.startswith("end ") for event in observer.events)
    fields = {**files, **ranked, "workers": workers}
    folders, seen, said = killed_again_and_again(how, tmp_path / "killed", kills, events, **fields)
    assert (seen > 0) is (workers > 1)
    assert (
        said.splitlines() == []
        if how is signal.SIGKILL
        else [f"stopped by {how.name}; run the same command to resume"] * kills
    )
    for folder in folders:
        start(files, folder, **ranked).report()
        assert outcome(folder) == outcome(whole)


def test_workers_start_at_once_and_not_where_all_is_there(files, tmp_path):
    came: list[bool] = []

    class Watching(Recorder):
        @contextmanager
        def stage(self, title: str) -> Iterator[Progress]:
            came.append(bool(came) or soon(lambda: len(workers_of(os.getpid())) == 2))  # nobody asked them yet
            with super().stage(title) as progress:
                yield progress

    start(files, tmp_path / "run", Watching(), workers=2, search="uniform", latency="modelled").search()
    assert came[0]
    assert not workers_of(os.getpid())
    with mock.patch.object(Processes, "start", side_effect=AssertionError("nothing is left to do")):
        start(files, tmp_path / "run", workers=2, search="uniform", latency="modelled").search()


def test_settings_of_workers_are_in_no_key(files, tmp_path):
    start(files, tmp_path / "run", search="uniform", latency="modelled").search()
    before = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["stages"]
    observer = Recorder()
    start(files, tmp_path / "run", observer, search="uniform", latency="modelled", workers=3, ray="nowhere").search()
    after = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["stages"]
    assert observer.events == []
    assert after == before
