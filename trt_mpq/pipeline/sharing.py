"""The pool of workers of a run, and the graphs whose samples they run.

Every graph that is calibrated, corrected or scored is given to all workers; each runs the chunks of the data that come
to it, and what they make of them comes together here, in the order of the data. So nothing is run in vain, and any
number of workers has something to do.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import onnx_ir as ir

from trt_mpq.artifacts.files import TEMPORARY, cannot_write
from trt_mpq.artifacts.stage import Job, Stage
from trt_mpq.dataset.chunks import Chunk
from trt_mpq.dataset.spread import ChunkWork, Spread
from trt_mpq.errors import RunFolderError
from trt_mpq.model import save_graph
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.settings import Settings
from trt_mpq.workers import WorkerPool, worker_pool

_R = TypeVar("_R")

_PART_S, _MOST_TOGETHER = 0.1, 8
"""Seconds of work, and chunks at most, that a worker is given at once: a way there and back takes Ray 4 ms or more."""

POOL = Stage(
    "worker-pool", lambda job: worker_pool(job.settings.workers, job.settings.ray, _imported), uses=("workers", "ray")
)  # fmt: skip
"""The workers that the settings ask for; None for this process alone."""


def threads_of_worker(settings: Settings) -> int:
    """Threads are shared out among the workers of one host, and those of a cluster have one each."""
    if settings.ray is not None:
        return 1
    return max(1, (settings.threads or os.cpu_count() or 1) // settings.workers)


def _spread(job: Job) -> Spread | None:
    pool = job[POOL]
    return None if pool is None else _Shared(pool, job.folder.resolve(), threads_of_worker(job.settings))


SPREAD = Stage("spread", _spread, uses=(POOL, "threads", "workers", "ray"))
"""How graphs run on the workers; None where there are none."""


@dataclass(frozen=True)
class _Shared:
    """Runs graphs on a pool; a graph in memory goes through a file in `folder`, which all workers see."""

    pool: WorkerPool
    folder: Path
    threads: int

    def __call__(
        self, graph: ir.Model | Path, outputs: Sequence[str], work: ChunkWork[_R], chunks: Iterator[Chunk]
    ) -> Generator[_R, None, None]:
        """Have `work` done, see `dataset.spread.Spread`."""
        wanted, together, done, seconds = True, 1, 0, 0.0

        def parts() -> Iterator[tuple[Chunk, ...]]:
            while wanted and (part := tuple(map(_sent, islice(chunks, together)))):
                yield part

        with self._file(graph) as path:
            given = self.pool.map(partial(_loaded, path, outputs, work, self.threads), parts(), prefetch=1)
            try:
                for results, taken in given:
                    done, seconds = done + len(results), seconds + taken
                    together = max(1, min(_MOST_TOGETHER, int(_PART_S * done / seconds)))
                    yield from results
            finally:
                wanted = False
                for _ in given:  # what is at work ends soon, and the workers stay for the next graph
                    pass

    @contextmanager
    def _file(self, graph: ir.Model | Path) -> Iterator[Path]:
        if isinstance(graph, Path):
            yield graph.resolve()
            return
        try:
            folder = tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}shared.", dir=self.folder)
        except OSError as error:
            raise RunFolderError(cannot_write(self.folder, error)) from error
        with folder as name:
            path = Path(name) / "graph.onnx"
            save_graph(graph, path)
            yield path


def _imported() -> None:
    """What workers need of libraries, and this module."""
    OnnxRuntime()


def _loaded(
    path: Path, outputs: Sequence[str], work: ChunkWork[_R], threads: int
) -> Callable[[Sequence[Chunk]], tuple[Sequence[_R], float]]:
    """Ready for chunks of the data: what a worker does with the graph in a file."""
    return partial(_timed, partial(work, OnnxRuntime(threads).load(path, outputs)))


def _timed(work: Callable[[Chunk], _R], chunks: Sequence[Chunk]) -> tuple[Sequence[_R], float]:
    """What `work` makes of the chunks, and the seconds that it takes."""
    started = time.perf_counter()
    return tuple(map(work, chunks)), time.perf_counter() - started


def _sent(chunk: Chunk) -> Chunk:
    """The chunk without what only this process needs of it."""
    return replace(chunk, batch=replace(chunk.batch, labels=None))
