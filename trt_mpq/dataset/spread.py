"""Chunks of the data through a graph: here, or spread over others that come to the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from trt_mpq.dataset.chunks import Chunk
from trt_mpq.runtime.base import Arrays, Runtime, Session
from trt_mpq.workers.threads import side_by_side

if TYPE_CHECKING:
    import onnx_ir as ir

_R = TypeVar("_R")
_T = TypeVar("_T")

ChunkWork = Callable[[Session, Chunk], _R]
"""What is made of a chunk with a loaded graph; picklable, as is what it returns."""


class Spread(Protocol):
    """Has work done on chunks of the data."""

    def __call__(
        self, graph: ir.Model | Path, outputs: Sequence[str], work: ChunkWork[_R], chunks: Iterator[Chunk]
    ) -> Generator[_R, None, None]:
        """What `work` makes of every chunk, in their order; some chunks are taken ahead of what is asked for.

        Args:
            graph: What runs, in memory or a file.
            outputs: The tensors that are wanted of it; none for its own outputs.
            work: What is made of a chunk.
            chunks: The samples; labels are not handed on.

        Raises:
            RuntimeFailure: The graph does not run.
        """


def here(runtime: Runtime) -> Spread:
    """Everything is done in this process, on `runtime`, by as many threads as are fastest."""
    return partial(_here, runtime)


def _here(
    runtime: Runtime, graph: ir.Model | Path, outputs: Sequence[str], work: ChunkWork[_R], chunks: Iterator[Chunk]
) -> Generator[_R, None, None]:
    first = list(islice(chunks, runtime.ways))
    ways = max(1, len(first))
    yield from side_by_side(partial(work, runtime.load(graph, outputs, ways)), chain(first, chunks), ways)


def outputs_by_sample(session: Session, chunk: Chunk) -> Arrays:
    """Every output for the samples of the chunk, see `Chunk.run`."""
    return chunk.run(session)


def outputs_as_given(session: Session, chunk: Chunk) -> Arrays:
    """Every output for the chunk as a whole, rows that only fill included."""
    return session.run(chunk.feeds)


@contextmanager
def with_results(
    items: Iterable[_T], run: Callable[[Iterator[_T]], Generator[_R, None, None]]
) -> Iterator[Iterator[tuple[_T, _R]]]:
    """Every item with what `run` gives for it, in their order; nothing is run any more once the block ends."""
    ahead: deque[_T] = deque()  # not itertools.tee, which holds on to dozens of items that both have passed

    def taken() -> Iterator[_T]:
        for item in items:
            ahead.append(item)
            yield item

    with closing(run(taken())) as results:
        yield ((ahead.popleft(), result) for result in results)
