"""What TensorRT for RTX compiles on the GPU at the first run of an engine, kept for the next ones.

Its CUDA graphs are left off: timers capture their own, as with every TensorRT, and a session changes its shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trt_mpq.artifacts.files import atomic_path
from trt_mpq.errors import RunFolderError

if TYPE_CHECKING:
    import tensorrt as trt


@contextmanager
def execution_context(engine: trt.ICudaEngine, cache_file: Path) -> Iterator[trt.IExecutionContext | None]:
    """An execution context of `engine` that finds in `cache_file` what was compiled before, and leaves it there.

    A cache that is damaged or of another version is made anew; one that cannot be written is left out, for it saves
    time only. None where TensorRT cannot make a context.
    """
    from trt_mpq.runtime.tensorrt.flavour import trt

    config = engine.create_runtime_config()
    config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
    cache = config.create_runtime_cache()
    with suppress(OSError):
        if not cache.deserialize(cache_file.read_bytes()):
            cache.reset()
    config.set_runtime_cache(cache)
    yield engine.create_execution_context(config)
    with suppress(OSError, RunFolderError), atomic_path(cache_file) as temporary:
        temporary.write_bytes(memoryview(cache.serialize()))
