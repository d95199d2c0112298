"""One timing cache per GPU and TensorRT version, whole or absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trt_mpq.errors import RunFolderError
from trt_mpq.runtime.tensorrt.timing_cache import TimingCache
from trt_mpq.types.engine import Platform

HERE = Platform("NVIDIA GeForce RTX 4090 (Laptop)", 89, "10.16.1.11", "13.0", "580.95.05")


def test_the_name_says_whose_timings_they_are() -> None:
    expected = "nvidia-geforce-rtx-4090-laptop-sm89-trt10.16.1.11.cache"
    assert TimingCache(Path("caches"), HERE).file == Path("caches") / expected


@pytest.mark.parametrize("change", [{"gpu": "NVIDIA H200"}, {"sm": 90}, {"tensorrt": "8.6.0"}])
def test_another_gpu_or_version_has_another_cache(change: dict[str, object]) -> None:
    assert TimingCache(Path(), replace(HERE, **change)).file != TimingCache(Path(), HERE).file  # type: ignore[arg-type]


def test_a_newer_driver_keeps_the_cache() -> None:
    assert TimingCache(Path(), replace(HERE, driver="590.1", cuda="13.1")).file == TimingCache(Path(), HERE).file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cache = TimingCache(tmp_path / "new" / "folder", HERE)
    assert cache.read() == b""
    cache.write(b"\0timings\n")
    assert cache.read() == b"\0timings\n"
    assert list(cache.file.parent.iterdir()) == [cache.file]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot write .*file/caches"):
        TimingCache(tmp_path / "file" / "caches", HERE).write(b"timings")
