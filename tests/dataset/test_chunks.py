"""Samples in portions, and what is cut off again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.dataset import Samples, samples_from_arrays
from trt_mpq.dataset.chunks import chunks, chunks_by_length, fixed_batch, most_chunks
from trt_mpq.dataset.samples import checked_samples
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


class Doubling:
    """A session whose outputs have one entry per row, two per row, one in all, and none per row."""

    output_names = ("row", "two", "all", "scalar")

    def run(self, feeds):
        values = feeds["x"]
        rows = {"row": values, "two": np.repeat(values, 2, axis=0), "all": np.zeros((1, 3)), "scalar": np.float32(1)}
        return {name: np.asarray(value) for name, value in rows.items()}


def pairs(count: int, batch: int | str) -> Samples:
    values = np.arange(count * 4, dtype=np.float32).reshape(count * 2, 2)
    return checked_samples({"x": values}, (TensorSpec("x", "float32", (batch, 2)),), np.arange(count), "", "", rows=2)


@pytest.mark.parametrize("delivered", [chunks, chunks_by_length])
@pytest.mark.parametrize(("batch", "size", "expected"), [("b", 7, [3, 2]), ("b", 1, [1] * 5), (4, 9, [2, 2, 1])])
def test_sizes_count_rows_and_outputs_are_put_together_by_sample(delivered, batch, size, expected):
    found = list(delivered(pairs(5, batch), size))
    assert [chunk.batch.size for chunk in found] == expected
    assert [chunk.end for chunk in found] == np.cumsum(expected).tolist()
    outputs = [chunk.run(Doubling()) for chunk in found]
    whole = np.concatenate([output["row"] for output in outputs])
    np.testing.assert_array_equal(whole, np.arange(20, dtype=np.float32).reshape(5, 2, 2))
    assert [output["two"].shape for output in outputs] == [(n, 4, 2) for n in expected]
    assert {output["all"].shape for output in outputs} == {(1, 3)}
    assert {output["scalar"].shape for output in outputs} == {()}


def padded(batch: int | str) -> Samples:
    mask = np.arange(6) < np.array([2, 6, 1, 2, 6, 2, 3])[:, None]
    ids = np.arange(7)[:, None] * np.ones(6, int)
    inputs = tuple(TensorSpec(name, "int64", (batch, "seq")) for name in ("x", "mask"))
    return checked_samples({"x": ids, "mask": mask.astype(int)}, inputs, np.arange(7), "", "", trim="mask")


@pytest.mark.parametrize("batch", ["batch", 2])
def test_equal_lengths_run_together_and_only_on_request(batch):
    found = list(chunks_by_length(padded(batch), 2))
    assert [chunk.batch.labels.tolist() for chunk in found] == [[1, 4], [6], [0, 3], [5], [2]]
    assert [chunk.feeds["x"].shape[1] for chunk in found] == [6, 3, 2, 2, 1]
    assert all(len(chunk.feeds["x"]) == 2 or batch == "batch" for chunk in found)
    assert [chunk.end for chunk in found] == [2, 3, 5, 6, 7]
    assert [chunk.feeds["x"].shape[1] for chunk in chunks(padded(batch), 2)] == [6] * 4


def test_tapering_chunks_get_smaller_unless_the_model_fixes_its_batch():
    free, fixed = samples(100, "batch"), samples(100, 32)
    assert [chunk.batch.size for chunk in chunks_by_length(free, 32, tapering=True)] == [25, 19, 14, 11, 8, 8, 8, 7]
    assert [chunk.batch.size for chunk in chunks_by_length(free, 32)] == [32, 32, 32, 4]
    assert [chunk.batch.size for chunk in chunks_by_length(fixed, 32, tapering=True)] == [32, 32, 32, 4]


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["batch", 16]), st.integers(1, 2))
def test_there_are_no_more_chunks_than_foretold(count, size, batch, rows):
    own = replace(samples(count * rows, batch), rows=rows, count=count)
    assert len(list(chunks_by_length(own, size, tapering=True))) <= most_chunks(own, size)


def test_the_fixed_batch_is_read_from_the_model():
    assert fixed_batch(samples(3, 4).inputs) == 4
    assert fixed_batch(samples(3, "batch").inputs) is None
