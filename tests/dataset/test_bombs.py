"""Files that say to hold far more than they are."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trt_mpq.dataset import arrays
from trt_mpq.dataset.arrays import load_npz
from trt_mpq.errors import DataError


def test_an_archive_that_is_a_bomb_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_HARMLESS_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", input=np.zeros((4, 1 << 20), np.float32))
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("it was read"))
    with pytest.raises(DataError, match=r"says to hold 16,777,\d+, over 100 times as much: if that is right, write it"):
        load_npz(tmp_path / "bomb.npz")


def test_a_header_that_promises_more_than_there_is_is_refused_unread(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (1 << 40,), "fortran_order": False, "descr": "<f4"})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("input.npy", header.getvalue())
    with pytest.raises(DataError, match="says to hold 4,398,046,511,104"):
        load_npz(tmp_path / "bomb.npz")


def test_padding_compresses_and_is_no_bomb(tmp_path: Path) -> None:
    ids = np.zeros((64, 512), np.int64)
    ids[:, :40] = np.random.default_rng(0).integers(0, 30000, (64, 40))
    np.savez_compressed(tmp_path / "ids.npz", input=ids)
    assert np.array_equal(load_npz(tmp_path / "ids.npz")["input"], ids)
