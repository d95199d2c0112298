"""Files of TensorRT's timing cache, which makes the second build of a run fast: one per GPU and TensorRT version.

Timings of another GPU or version are worse than none, so the file's name says whose they are.
"""

from __future__ import annotations

import re
from pathlib import Path

from trt_mpq.artifacts.files import atomic_path, cannot_write
from trt_mpq.errors import RunFolderError
from trt_mpq.types.engine import Platform


def cache_file(folder: Path, platform: Platform) -> Path:
    """Where the timing cache of `platform` lies in `folder`."""
    gpu = re.sub(r"[^a-z0-9]+", "-", platform.gpu.lower()).strip("-")
    return folder / f"{gpu}-sm{platform.sm}-trt{platform.tensorrt}.cache"


def read_cache(file: Path) -> bytes:
    """Content of a cache, empty if there is none yet; raises OSError if it cannot be read."""
    return file.read_bytes() if file.exists() else b""


def write_cache(file: Path, content: bytes) -> None:
    """Replace a cache as a whole; raises RunFolderError if the folder cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(cannot_write(file.parent, error)) from error
    with atomic_path(file) as temporary:
        temporary.write_bytes(content)
