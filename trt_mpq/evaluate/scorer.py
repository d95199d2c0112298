"""Task scores of graphs on the evaluation set.

The data is run in portions, by length within them, with FP32's outputs beside where the metric needs them. Others may
run it: what they give comes in its order, so that a score does not depend on who did the work.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.dataset import Samples
from trt_mpq.dataset.cached import CACHE_BYTES
from trt_mpq.dataset.chunks import Chunk, chunks_by_length
from trt_mpq.dataset.spread import Spread, here, outputs_by_sample, with_results
from trt_mpq.evaluate.metrics import Scores, TaskMetric
from trt_mpq.evaluate.sequential import PairedTest, Schedule, data_order
from trt_mpq.runtime.base import Arrays, Runtime, Session, size_of
from trt_mpq.types import Judgement, Progress, Score

_RunsChunks = Callable[[Iterator[Chunk]], Generator[Arrays, None, None]]
"""From chunks of the data to what a graph gives for them, in their order; may take some ahead of what is asked for."""


@dataclass(frozen=True)
class _Step:
    """What a graph runs at once.

    Attributes:
        chunk: The samples.
        positions: Their places [n] in the order of drawing, the order of the data where nothing is drawn.
        end: Number of samples that have run with it.
        ends_portion: Whether a portion is complete with it.
        reference: FP32's outputs for them, or None where the metric needs none.
    """

    chunk: Chunk
    positions: NDArray[np.intp]
    end: int
    ends_portion: bool
    reference: Arrays | None


class _Pass:
    """The evaluation data in one order and length, the same for every graph.

    Args:
        fp32: The original graph.
        runtime: Where it runs.
        samples: Evaluation data; cut where it tells lengths.
        batch: Rows of the model's batch per run, at most.
        schedule: Order and portions; only within a portion samples of one length are put together.
        needs_reference: Whether FP32's outputs are wanted.
        outputs: The tensors that count.
    """

    def __init__(
        self,
        fp32: ir.Model,
        runtime: Runtime,
        samples: Samples,
        batch: int,
        schedule: Schedule,
        needs_reference: bool,
        outputs: tuple[str, ...],
    ) -> None:
        self.samples, self.schedule, self.outputs = samples, schedule, outputs
        self._fp32, self._runtime, self._batch, self._needs_reference = fp32, runtime, batch, needs_reference
        self._kept: dict[int, Arrays] = {}
        self._kept_bytes = 0

    def steps(self, begun: int) -> Iterator[_Step]:
        """Everything behind the first `begun` samples, which are whole portions."""
        session: Session | None = None
        for first, last in pairwise((0, *self.schedule.ends)):
            if first < begun:
                continue
            for chunk in chunks_by_length(self._portion(first, last), self._batch, tapering=True):
                before = first + chunk.batch.start
                reference = self._kept.get(before)
                if reference is None and self._needs_reference:
                    session = session or self._runtime.load(self._fp32, self.samples.running(self.outputs))
                    reference = self._keep(before, self.counted(chunk.run(session)))
                end = before + chunk.batch.size
                yield _Step(chunk, first + chunk.batch.numbers, end, end == last, reference)

    def counted(self, values: Arrays) -> Arrays:
        """Those that count of what a graph or engine gives."""
        return {name: values[name] for name in self.outputs}

    def _portion(self, first: int, last: int) -> Samples:
        order = self.schedule.order
        return self.samples if order is None else self.samples.select(order[first:last])

    def _keep(self, before: int, outputs: Arrays) -> Arrays:
        """`outputs` of the samples that `before` others precede, remembered if there is room for them."""
        size = size_of(outputs)
        if self._kept_bytes + size <= CACHE_BYTES:
            self._kept[before] = outputs
            self._kept_bytes += size
        return outputs


class Scoring:
    """One graph on its way through the evaluation data.

    Args:
        data: The data.
        metric: Task metric.
    """

    def __init__(self, data: _Pass, metric: TaskMetric) -> None:
        self._data, self._accumulator = data, metric.accumulator()
        self._positions: list[NDArray[np.intp]] = []
        self._samples = 0

    def advance(self, run: _RunsChunks, progress: Progress | None = None) -> Generator[int, None, None]:
        """Run the samples that are still missing, and tell after each portion how many there are.

        Raises:
            RuntimeFailure: The graph does not run.
            MetricError: The outputs cannot be scored.
        """
        steps = self._data.steps(self._samples)
        with with_results(steps, lambda ahead: run(step.chunk for step in ahead)) as results:
            for step, outputs in results:
                self._accumulator.add(self._data.counted(outputs), step.chunk.batch.labels, step.reference)
                self._positions.append(step.positions)
                if progress:
                    progress(step.end, self._data.samples.count)
                if step.ends_portion:
                    self._samples = step.end
                    yield step.end

    @property
    def drawn(self) -> Scores | None:
        """What the metric keeps of the samples run so far, in the order of drawing; None if it keeps nothing."""
        return self._sorted_by(np.concatenate(self._positions))

    @property
    def in_data_order(self) -> Scores | None:
        """The same in the order of the data."""
        return self._sorted_by(self._numbers_in_data())

    def result(self) -> Score:
        """The score of the samples run so far; sums are in the order of the data, whatever that of drawing."""
        return self._accumulator.result(np.argsort(self._numbers_in_data()))

    def _numbers_in_data(self) -> NDArray[np.intp]:
        return self._data.schedule.in_data(np.concatenate(self._positions))

    def _sorted_by(self, keys: NDArray[np.intp]) -> Scores | None:
        kept = self._accumulator.numbers
        return None if kept is None else kept[np.argsort(keys)]


class Scorer:
    """Scores graphs on one evaluation set with one metric.

    Args:
        fp32: The original graph, whose outputs fidelity metrics compare with.
        runtime: Where graphs run.
        samples: Evaluation data.
        metric: Task metric.
        batch: Rows of the model's batch per run, at most.
        schedule: Order and portions in which samples run; None for all at once, in the order of the data.
        outputs: The tensors that count, any that the graphs compute; none for the outputs of `fp32`.
        spread: Has graphs run by others; None for here.
    """

    def __init__(
        self,
        fp32: ir.Model,
        runtime: Runtime,
        samples: Samples,
        metric: TaskMetric,
        batch: int,
        schedule: Schedule | None = None,
        outputs: Sequence[str] = (),
        spread: Spread | None = None,
    ) -> None:
        self.metric, self.schedule = metric, schedule or data_order(samples.count)
        self._samples, self._spread = samples, spread or here(runtime)
        self.outputs = tuple(outputs) or tuple(str(value.name) for value in fp32.graph.outputs)

        def passing(data: Samples) -> _Pass:
            return _Pass(fp32, runtime, data, batch, self.schedule, metric.needs_reference, self.outputs)

        self._uncut = passing(samples.uncut())
        self._cut = self._uncut if samples.padding is None or metric.in_order else passing(samples)

    def score(self, graph: ir.Model | Path, progress: Progress | None = None) -> Score:
        """Run every sample through `graph`, cut to its length where the data tells it and the metric allows it.

        Raises:
            RuntimeFailure: The graph does not run.
            MetricError: The outputs cannot be scored.
        """
        return self.finished(self.begun(), graph, progress).result()

    def score_session(self, session: Session, progress: Progress | None = None) -> Score:
        """Run every sample, uncut, through a graph or engine that is loaded and gives what counts.

        An engine is built for the length that the data has: shorter samples may be outside its profile.

        Raises:
            RuntimeFailure: It does not run.
            MetricError: The outputs cannot be scored.
        """
        scoring = Scoring(self._uncut, self.metric)
        _exhaust(scoring.advance(partial(_run_here, session), progress))
        return scoring.result()

    def begun(self) -> Scoring:
        """A graph about to run through the data, for `finished` or `decided`."""
        return Scoring(self._cut, self.metric)

    def finished(self, scoring: Scoring, graph: ir.Model | Path, progress: Progress | None = None) -> Scoring:
        """`scoring` of `graph` with every sample that was still missing; raises as `score` does."""
        _exhaust(scoring.advance(self._ready(graph), progress))
        return scoring

    def decided(
        self, scoring: Scoring, graph: ir.Model, test: PairedTest, progress: Progress | None = None
    ) -> Judgement | None:
        """Run `graph` portion by portion until `test` decides; None if all samples had to run; raises as `score`."""
        with closing(scoring.advance(self._ready(graph), progress)) as portions:
            for end in portions:
                numbers = scoring.drawn if end in self.schedule.looks else None
                verdict = None if numbers is None else test.decide(numbers)
                if numbers is not None and verdict is not None:
                    return Judgement(test.estimate(numbers), verdict, complete=False)
        return None

    def _ready(self, graph: ir.Model | Path) -> _RunsChunks:
        return partial(self._spread, graph, self._samples.running(self.outputs), outputs_by_sample)


def _run_here(session: Session, chunks: Iterator[Chunk]) -> Generator[Arrays, None, None]:
    return (chunk.run(session) for chunk in chunks)


def _exhaust(portions: Iterator[int]) -> None:
    for _ in portions:
        pass
