"""The samples that travel with a run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.artifacts.files import write_arrays
from trt_mpq.dataset import open_samples
from trt_mpq.dataset.arrays import load_npz
from trt_mpq.dataset.samples import samples_from_arrays
from trt_mpq.engine.handover import write_leading_samples
from trt_mpq.types import TensorSpec


@given(st.lists(st.sampled_from(["file", "args", "allow_pickle", "a/b:0", "x[0]"]), min_size=1, unique=True))
def test_arrays_of_any_name_come_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    arrays = {name: np.full((2, 3), index, np.int64) for index, name in enumerate(names)}
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    write_arrays(arrays, path)
    found = load_npz(path)
    assert list(found) == names
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    with np.load(path) as archive:  # numpy reads it too
        assert archive.files == names


@pytest.mark.parametrize(("row", "count", "kept"), [(1, 5, 5), (10, 5, 3), (100, 5, 1), (0, 5, 5)])
def test_as_many_samples_travel_as_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int, count: int, kept: int
) -> None:
    monkeypatch.setattr("trt_mpq.engine.handover._SAMPLE_BYTES", 240)  # three rows of ten elements of 8 bytes
    inputs = (TensorSpec("file", "int64", ("batch", row)),)
    values = np.arange(count * row, dtype=np.int64).reshape(count, row)
    write_leading_samples(samples_from_arrays({"file": values}, inputs), tmp_path / "samples.npz")
    found = open_samples(tmp_path / "samples.npz", inputs)
    assert found.count == kept
    np.testing.assert_array_equal(found.columns["file"][slice(0, kept)], values[:kept])
