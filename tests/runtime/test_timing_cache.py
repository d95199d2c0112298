"""One timing cache per GPU and TensorRT version, whole or absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trt_mpq.errors import RunFolderError
from trt_mpq.runtime.tensorrt.timing_cache import cache_file, read_cache, write_cache
from trt_mpq.types.engine import Platform

HERE = Platform("NVIDIA GeForce RTX 4090 (Laptop)", 89, "10.16.1.11", "13.0", "580.95.05")


def test_the_name_says_whose_timings_they_are() -> None:
    expected = "nvidia-geforce-rtx-4090-laptop-sm89-trt10.16.1.11.cache"
    assert cache_file(Path("caches"), HERE) == Path("caches") / expected


@pytest.mark.parametrize("change", [{"gpu": "NVIDIA H200"}, {"sm": 90}, {"tensorrt": "8.6.0"}])
def test_another_gpu_or_version_has_another_cache(change: dict[str, object]) -> None:
    assert cache_file(Path(), replace(HERE, **change)) != cache_file(Path(), HERE)  # type: ignore[arg-type]


def test_a_newer_driver_keeps_the_cache() -> None:
    assert cache_file(Path(), replace(HERE, driver="590.1", cuda="13.1")) == cache_file(Path(), HERE)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "a.cache"
    assert read_cache(file) == b""
    write_cache(file, b"\0timings\n")
    assert read_cache(file) == b"\0timings\n"
    assert [path.name for path in file.parent.iterdir()] == ["a.cache"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot write .*file/caches"):
        write_cache(tmp_path / "file" / "caches" / "a.cache", b"timings")
