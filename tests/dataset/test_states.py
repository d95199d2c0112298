"""Inputs whose rows are not on the first axis, and inputs that are the same for all rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.prepared import normal
from trt_mpq.dataset import open_samples, samples_from_arrays
from trt_mpq.dataset.chunks import chunks, fixed_batch
from trt_mpq.errors import DataError
from trt_mpq.types import TensorSpec

STATE = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
RATE = np.int64(16000)


def inputs(batch: int | str = "batch") -> tuple[TensorSpec, ...]:
    return (
        TensorSpec("x", "float32", (batch, 4)),
        TensorSpec("state", "float32", (2, batch, 3), batch_axis=1),
        TensorSpec("rate", "int64", (), batch_axis=None),
    )


def arrays(**others: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": normal(5, 4), "state": STATE, "rate": np.asarray(RATE), **others}


def test_every_batch_has_its_rows_where_the_model_wants_them() -> None:
    found = list(chunks(samples_from_arrays(arrays(), inputs()), 2))
    assert [chunk.batch.size for chunk in found] == [2, 2, 1]
    joined = np.concatenate([chunk.feeds["state"] for chunk in found], axis=1)
    np.testing.assert_array_equal(joined, STATE)
    assert all(chunk.feeds["rate"] == RATE for chunk in found)
    assert all(chunk.feeds["rate"].shape == () for chunk in found)


def test_a_state_of_one_row_is_that_of_every_sample() -> None:
    (chunk,) = chunks(samples_from_arrays(arrays(state=STATE[:, :1]), inputs()), 8)
    np.testing.assert_array_equal(chunk.feeds["state"], np.repeat(STATE[:, :1], 5, axis=1))


def test_a_fixed_batch_is_filled_along_the_same_axes() -> None:
    fixed = inputs(3)
    assert fixed_batch(fixed) == 3
    assert fixed_batch((TensorSpec("x", "float32", ("batch", 4)), fixed[1])) == 3
    last = list(chunks(samples_from_arrays(arrays(), fixed), 9))[-1]
    assert (last.batch.size, last.rows) == (2, 3)
    np.testing.assert_array_equal(last.feeds["state"], STATE[:, [3, 4, 4]])
    assert last.cut(last.feeds["x"]).shape == (2, 4)


def test_some_samples_are_taken_with_their_states(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays())
    samples = open_samples(tmp_path / "data.npz", inputs())
    (chunk,) = chunks(samples.select(np.array([4, 1])), 8)
    np.testing.assert_array_equal(chunk.feeds["state"], STATE[:, [4, 1]])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"state": STATE.transpose(1, 0, 2)}, "row counts differ: 'x' 5, 'state' 2"),
        ({"state": STATE[:, :, :2]}, r"'state' has shape \[2, 2\] but the model wants \[2, 3\] \(dimension 1"),
        ({"rate": np.int64([1, 2, 3])}, "array 'rate' has shape"),
        ({"rate": np.float32(1.5)}, "'rate' is float32 but the model wants int64"),
    ],
)
def test_what_does_not_fit_is_refused(other: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        samples_from_arrays(arrays(**other), inputs())


@pytest.mark.parametrize("batch", ["batch", 3])
def test_what_a_model_gives_is_taken_apart_where_its_rows_are(batch: int | str) -> None:
    """An output [2, rows, 3], in as many parts as a batch makes of the samples, filled or not."""
    samples = samples_from_arrays(arrays(), inputs(batch)).giving((TensorSpec("out", "float32", (2, batch, 3), 1),))

    class Copies:
        """Gives back the state."""

        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"out": feeds["state"], "x": feeds["x"]}

    parts = [chunk.run(Copies()) for chunk in chunks(samples, 2)]
    np.testing.assert_array_equal(np.concatenate([part["out"] for part in parts]), np.moveaxis(STATE, 1, 0))
    np.testing.assert_array_equal(np.concatenate([part["x"] for part in parts]), normal(5, 4))
