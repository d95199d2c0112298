"""Sequences: run step by step with the states that each comes to, or recorded as samples of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from trt_mpq.dataset.chunks import chunks
from trt_mpq.dataset.sequences import open_data, recorded
from trt_mpq.errors import DataError
from trt_mpq.types import TensorSpec

X = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
STATES = {"sum": "next"}


class Sums:
    """Adds what it is fed to its state [1, rows, 3], and gives it to `y` [rows, 3] too."""

    output_names = ("y", "next")

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds["rate"].shape == ()
        given = feeds["sum"] + feeds["x"][None] * feeds["rate"]
        return {"y": given[0], "next": given}


def inputs(batch: int | str = "n") -> tuple[TensorSpec, ...]:
    return (
        TensorSpec("sum", "float32", (1, batch, 3), 1),
        TensorSpec("x", "float32", (batch, 3)),
        TensorSpec("rate", "float32", (), None),
    )


OUTPUTS = (TensorSpec("y", "float32", ("n", 3)), TensorSpec("next", "float32", (1, "n", 3), 1))


def opened(folder: Path, batch: int | str = "n", **arrays: np.ndarray):
    np.savez(folder / "data.npz", **{"x": X, "rate": np.float32(1), **arrays})
    return open_data(folder / "data.npz", inputs(batch), OUTPUTS, STATES)


@pytest.mark.parametrize("batch", ["n", 1, 2, 4])
def test_every_step_gets_what_the_one_before_gave(batch: int | str, tmp_path: Path) -> None:
    parts = [chunk.run(Sums()) for chunk in chunks(opened(tmp_path, batch), 2)]
    for name in ("y", "next"):
        found = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(found.reshape(5, 4, 3), X.cumsum(axis=1))


@pytest.mark.parametrize("rows", [1, 5])
def test_sequences_begin_with_the_states_that_are_given(rows: int, tmp_path: Path) -> None:
    state = np.arange(rows * 3, dtype=np.float32).reshape(1, rows, 3) * 100
    (chunk,) = chunks(opened(tmp_path, sum=state), 8)
    np.testing.assert_array_equal(chunk.run(Sums())["y"], X.cumsum(axis=1) + state[0][:, None])


@pytest.mark.parametrize("batch", ["n", 2])
def test_recorded_steps_are_samples_with_the_states_before_them(batch: int | str, tmp_path: Path) -> None:
    labels = np.arange(20).reshape(5, 4)
    steps = recorded(opened(tmp_path, batch, labels=labels), Sums(), inputs(batch))
    assert (steps.count, steps.steps) == (20, None)
    before = X.cumsum(axis=1) - X
    parts = list(chunks(steps, 3))
    found = np.concatenate([chunk.cut(np.moveaxis(chunk.feeds["sum"], 1, 0)) for chunk in parts])
    np.testing.assert_array_equal(found[:, 0], before.reshape(20, 3))
    given = np.concatenate([chunk.run(Sums())["next"] for chunk in parts])
    np.testing.assert_array_equal(given.reshape(5, 4, 3), X.cumsum(axis=1))
    np.testing.assert_array_equal(np.concatenate([chunk.batch.labels for chunk in parts]), labels.ravel())


def test_labels_of_whole_sequences_belong_to_no_step(tmp_path: Path) -> None:
    sequences = opened(tmp_path, labels=np.arange(5))
    assert sequences.has_labels
    assert not recorded(sequences.take(2), Sums(), inputs()).has_labels


def test_an_output_whose_size_changes_is_that_of_the_last_step(tmp_path: Path) -> None:
    class Grows(Sums):
        """Gives everything that it was fed so far."""

        def __init__(self) -> None:
            self.seen: list[np.ndarray] = []

        def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.seen.append(feeds["x"])
            return {**super().run(feeds), "y": np.stack(self.seen, axis=1)}

    (chunk,) = chunks(opened(tmp_path), 8)
    np.testing.assert_array_equal(chunk.run(Grows())["y"], X)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X[0, 0]}, r"array 'x' has shape \[3\] and a network with --states takes sequences"),
        ({"x": X[:, :, :2]}, r"'x' has shape \[4, 2\] but the model wants \[steps, 3\]"),
        ({"sum": np.zeros((1, 2, 3), np.float32)}, "row counts differ: 'x' 5, 'sum' 2"),
        ({"labels": np.arange(20)}, "row counts differ"),
    ],
)
def test_what_is_no_sequence_is_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        opened(tmp_path, **arrays)


def test_sequences_come_as_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match=r"takes sequences, an \.npz of arrays \[sequences, steps, \.\.\.\]"):
        open_data(tmp_path / "x.npy", inputs(), OUTPUTS, STATES)
