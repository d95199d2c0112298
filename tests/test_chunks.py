"""Samples in portions, and what is cut off again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.chunks import chunks, fixed_batch
from trt_mpq.dataset import Samples, samples_from_arrays
from trt_mpq.types import TensorSpec


def samples(count: int, batch: int | str) -> Samples:
    values = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    return samples_from_arrays({"x": values}, (TensorSpec("x", "float32", (batch, 2)),), np.arange(count))


@given(st.integers(1, 40), st.integers(1, 50))
def test_a_free_batch_dimension_is_never_filled(count, size):
    found = list(chunks(samples(count, "batch"), size))
    assert all(len(chunk.feeds["x"]) == chunk.batch.size <= size for chunk in found)
    assert np.concatenate([chunk.batch.labels for chunk in found]).tolist() == list(range(count))
    assert found[-1].end == count


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 50))
def test_a_fixed_batch_dimension_is_always_full_and_the_filling_is_cut_off(count, fixed, size):
    found = list(chunks(samples(count, fixed), size))
    assert all(len(chunk.feeds["x"]) == fixed for chunk in found)
    values = np.concatenate([chunk.cut(chunk.feeds["x"]) for chunk in found])
    assert np.array_equal(values, np.arange(count * 2, dtype=np.float32).reshape(count, 2))
    assert sum(chunk.batch.size for chunk in found) == count


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 3), (6, 3)), ((4,), (3,)), ((), ()), ((5, 2), (5, 2)), ((0, 2), (0, 2))]
)
def test_what_does_not_count_samples_is_left_whole(shape, expected):
    last = list(chunks(samples(7, 4), 1))[-1]
    assert last.batch.size == 3
    assert last.cut(np.zeros(shape)).shape == expected


def test_the_fixed_batch_is_read_from_the_model():
    assert fixed_batch(samples(3, 4).inputs) == 4
    assert fixed_batch(samples(3, "batch").inputs) is None
