"""Graphs whose samples workers run: the same scores, ranges and corrections, little in vain, nothing left behind."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests.evaluate.scorers import Deciding
from tests.networks import NETWORKS, mlp
from tests.prepared import RUNTIME, Prepared, normal, prepare
from trt_mpq.artifacts.files import to_stored_json
from trt_mpq.calibrate.ranges import calibrate
from trt_mpq.dataset.spread import Spread
from trt_mpq.emit import Refinements
from trt_mpq.errors import CalibrationError, RuntimeFailure
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.evaluate.sequential import growing_portions
from trt_mpq.model import save_graph
from trt_mpq.pipeline.sharing import _Shared
from trt_mpq.refine.bias_correction import correct_biases
from trt_mpq.types import Judgement, Precision, Ranges, Score
from trt_mpq.workers.base import Outcome, nothing
from trt_mpq.workers.pool import WorkerPool
from trt_mpq.workers.runner import TaskRunner

SAMPLES = 200


class InProcess:
    """Hires workers of this process, whose answers are ready the last first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.hired: list[Local] = []

    def start(self) -> Local:
        self.hired.append(Local())
        return self.hired[-1]

    def ready(self, workers: Sequence[Local]) -> Sequence[Local]:
        return workers[-1:]

    @property
    def rows(self) -> int:
        """How many rows all of them were given."""
        return sum(sum(worker.parts) for worker in self.hired)


class Local:
    def __init__(self) -> None:
        self._runner, self.stopped = TaskRunner(pickle.dumps(nothing)), False
        self.parts: list[int] = []
        self._outcomes: deque[Outcome] = deque()

    def submit(self, initializer: bytes, part: bytes) -> None:
        self.parts.append(sum(chunk.rows for chunk in pickle.loads(part)))
        self._outcomes.append(self._runner.do(initializer, part))

    def outcome(self) -> Outcome:
        return self._outcomes.popleft()

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture(scope="module")
def network() -> Prepared:
    return prepare(mlp())


def scorer_on(network: Prepared, folder: Path, host: InProcess | None) -> Scorer:
    """A scorer in portions of 40, 44, 48 ... samples, eight rows at a time."""
    metric = metric_from_name("cosine", has_labels=False, outputs=network.model.outputs)
    shared = None if host is None else _Shared(WorkerPool(host), folder, 1)
    schedule = growing_portions(SAMPLES, 0, first=40, growth=0.1, multiple=8)
    samples = network.samples(normal(SAMPLES, 32))
    return Scorer(network.graph, RUNTIME, samples, metric, 8, schedule, spread=shared)


def disturbed(network: Prepared) -> ir.Model:
    """The graph with other biases."""
    graph = network.graph.clone()
    for value in graph.graph.initializers.values():
        if value.const_value is not None and value.const_value.numpy().ndim == 1:
            value.const_value = ir.tensor(value.const_value.numpy() + 0.1)
    return graph


@pytest.mark.parametrize("count", [1, 2, 5])
def test_scores_are_those_of_one_process_and_every_sample_runs_once(network, tmp_path, count):
    graph, host = disturbed(network), InProcess(count)
    alone = scorer_on(network, tmp_path, None).score(graph)
    assert scorer_on(network, tmp_path, host).score(graph) == alone != Score(1.0, 0.0, SAMPLES)
    assert host.rows == SAMPLES
    assert len(host.hired) == count
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_scored_where_it_lies(network, tmp_path):
    graph, host = disturbed(network), InProcess(2)
    save_graph(graph, tmp_path / "plan.onnx")
    shared = scorer_on(network, tmp_path, host)
    assert shared.score(tmp_path / "plan.onnx") == shared.score(graph)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.onnx"]


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 8), (1e9, 8 * 8)])
def test_chunks_that_are_done_soon_go_to_a_worker_together(network, tmp_path, monkeypatch, seconds, most):
    monkeypatch.setattr("trt_mpq.pipeline.sharing._PART_S", seconds)
    host = InProcess(2)
    scorer_on(network, tmp_path, host).score(disturbed(network))
    parts = [rows for worker in host.hired for rows in worker.parts]
    assert max(parts) == most
    assert sum(parts) == SAMPLES


def test_a_judgement_that_ends_early_leaves_workers_for_the_next_graph_and_goes_on_where_it_was(
    network, tmp_path, monkeypatch
):
    monkeypatch.setattr("trt_mpq.pipeline.sharing._MOST_TOGETHER", 1)
    graph, host, enough = disturbed(network), InProcess(2), 48
    alone, shared = scorer_on(network, tmp_path, None), scorer_on(network, tmp_path, host)
    begun = shared.begun()
    judged = shared.decided(begun, graph, Deciding(enough, verdict=False))
    assert isinstance(judged, Judgement)
    assert judged == alone.decided(alone.begun(), graph, Deciding(enough, verdict=False))
    assert judged.score.samples == enough
    assert enough <= host.rows <= enough + 2 * 2 * 8, "a few chunks ahead at most"
    before = host.rows
    assert shared.finished(begun, graph).result() == alone.score(graph)
    assert host.rows == before + SAMPLES - enough
    assert len(host.hired) == 2
    assert not any(worker.stopped for worker in host.hired)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["residual_cnn", "mlp"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_ranges_and_corrections_are_to_the_bit_those_of_one_process(name, count, tmp_path):
    prepared, told = prepare(NETWORKS[name]()), []
    spec = prepared.model.inputs[0]
    samples = prepared.samples(normal(70, *(size for size in spec.shape[1:] if isinstance(size, int))))
    network = prepared.network(samples)
    plan = network.grouping.uniform(Precision.INT8)

    def calibrated(spread: Spread | None) -> bytes:
        told.append([])
        ranges = calibrate(
            prepared.graph, prepared.grouping, samples, RUNTIME, methods=("mse", "minmax", "entropy"),
            formats=(Precision.INT8, Precision.FP8), batch=8, progress=lambda *at: told[-1].append(at), spread=spread,
        )  # fmt: skip
        return to_stored_json(ranges, tuple[Ranges, ...]).encode()

    def corrected(spread: Spread | None) -> dict[tuple[str, Precision], bytes]:
        shifts = correct_biases(network, plan, Refinements(), samples, RUNTIME, batch=8, spread=spread)
        return {key: shift.tobytes() for key, shift in shifts.items()}

    host = InProcess(count)
    shared = _Shared(WorkerPool(host), tmp_path, 1)
    assert calibrated(shared) == calibrated(None)
    assert host.rows == 2 * 70
    assert told[0] == told[1] == [(done, 140) for done in (*range(8, 71, 8), 70, *range(78, 141, 8), 140)]
    assert corrected(shared) == corrected(None) != {}
    assert host.rows == 3 * 70
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_named_as_by_one_process_and_workers_are_free_again(network, tmp_path):
    graph, host = network.graph.clone(), InProcess(2)
    for value in graph.graph.initializers.values():
        if value.const_value is not None and value.const_value.numpy().ndim == 1:
            value.const_value = ir.tensor(np.full_like(value.const_value.numpy(), np.inf))
    shared, said = _Shared(WorkerPool(host), tmp_path, 1), []
    for spread in (None, shared):
        with pytest.raises(CalibrationError) as failure:
            calibrate(
                graph, network.grouping, network.samples(normal(70, 32)), RUNTIME, methods=("minmax",),
                formats=(Precision.INT8,), batch=8, spread=spread,
            )  # fmt: skip
        said.append(str(failure.value))
    assert said[0] == said[1]
    assert "calibration samples 0 to 7" in said[0]
    assert host.rows < 70
    assert not any(worker.stopped for worker in host.hired)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_load_is_the_sentence_of_one_process(network, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    said = []
    for host in (None, InProcess(2)):
        with pytest.raises(RuntimeFailure) as failure:
            scorer_on(network, tmp_path, host).score(broken)
        said.append(str(failure.value))
    assert said[0] == said[1]
