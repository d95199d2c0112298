"""TensorRT's timing cache, which makes the second build of a run fast: one file per GPU and TensorRT version.

Timings of another GPU or version are worse than none, so the file's name says whose they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from trt_mpq.artifacts.files import atomic_path, cannot_write
from trt_mpq.errors import RunFolderError
from trt_mpq.types.engine import Platform

if TYPE_CHECKING:
    import tensorrt as trt


class TimingCache:
    """The timing cache of `platform` in `folder`.

    Attributes:
        file: Where it lies.
    """

    def __init__(self, folder: Path, platform: Platform) -> None:
        gpu = re.sub(r"[^a-z0-9]+", "-", platform.gpu.lower()).strip("-")
        self.file = folder / f"{gpu}-sm{platform.sm}-trt{platform.tensorrt}.cache"

    def known(self, builder: trt.Builder) -> tuple[bytes, tuple[str, ...]]:
        """Its content, and no note; or nothing, and a note why it cannot be used."""
        try:
            content = self.read()
        except OSError as error:
            return b"", (f"timing cache {self.file}: it cannot be read ({error.strerror})",)
        if content and not _fits(builder, content):
            return b"", (f"timing cache {self.file}: TensorRT refused its content, so it was made anew",)
        return content, ()

    def read(self) -> bytes:
        """Its content, empty if there is none yet; raises OSError if it cannot be read."""
        return self.file.read_bytes() if self.file.exists() else b""

    def write(self, content: bytes) -> None:
        """Replace it as a whole; raises RunFolderError if the folder cannot be written."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(cannot_write(self.file.parent, error)) from error
        with atomic_path(self.file) as temporary:
            temporary.write_bytes(content)


def _fits(builder: trt.Builder, content: bytes) -> bool:
    """Whether TensorRT takes `content`; it does not if it is damaged or from another GPU or version."""
    config = builder.create_builder_config()
    timings = config.create_timing_cache(content)
    return timings is not None and config.set_timing_cache(timings, ignore_mismatch=False)
