"""Free dimensions, and example inputs of other sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.errors import DataError, SettingsError
from trt_mpq.export import DynamicAxis
from trt_mpq.export.axes import dynamic_axes, resized, sizes_of

IDS = np.arange(6).reshape(2, 3)
IMAGE = np.zeros((2, 3, 8, 8), np.float32)


def test_the_batch_and_the_length_of_tokens_are_free() -> None:
    assert dynamic_axes({"ids": IDS, "image": IMAGE}, (), batch=True) == (
        DynamicAxis("ids", 0, "batch"),
        DynamicAxis("image", 0, "batch"),
        DynamicAxis("ids", 1, "sequence", required=False),
    )


def test_lengths_that_differ_have_names_of_their_own() -> None:
    axes = dynamic_axes({"source": IDS, "target": IDS[:, :2]}, (), batch=False)
    assert [axis.symbol for axis in axes] == ["source_length", "target_length"]


def test_what_is_given_comes_first() -> None:
    width = DynamicAxis.from_text("image=3:width")
    tokens = DynamicAxis.from_text("ids=1:tokens")
    axes = dynamic_axes({"ids": IDS, "image": IMAGE}, (width, tokens), batch=True)
    assert axes[:2] == (width, tokens)
    assert {(axis.input, axis.axis) for axis in axes[2:]} == {("ids", 0), ("image", 0)}


def test_other_numbers_are_no_tokens() -> None:
    feeds = {"bytes": IDS.astype(np.uint8), "floats": IDS.astype(np.float32), "one": np.zeros((), np.int64)}
    assert {axis.axis for axis in dynamic_axes(feeds, (), batch=True)} == {0}


@pytest.mark.parametrize("text", ["ids", "ids=1", "ids=x:y", "=1:y", "ids=1:2y", "ids=-1:y"])
def test_text_that_is_no_axis(text: str) -> None:
    with pytest.raises(SettingsError, match="NAME=AXIS:SYMBOL"):
        DynamicAxis.from_text(text)


@pytest.mark.parametrize("text", ["other=1:y", "ids=2:y"])
def test_an_axis_that_is_not_there(text: str) -> None:
    with pytest.raises(SettingsError, match=r"they are ids int64\[2, 3\]"):
        dynamic_axes({"ids": IDS}, (DynamicAxis.from_text(text),), batch=True)


def test_a_symbol_has_one_size() -> None:
    with pytest.raises(DataError, match="disagree on the size of batch"):
        dynamic_axes({"ids": IDS, "table": np.zeros((7, 4), np.float32)}, (), batch=True)


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), row_size=st.integers(1, 20), column_size=st.integers(2, 20))
def test_resizing_keeps_what_a_mask_shows(rows: int, columns: int, row_size: int, column_size: int) -> None:
    for padded in (np.arange(columns) < max(1, columns // 2), np.arange(columns) >= columns // 2):
        mask = np.tile(padded.astype(np.int64), (rows, 1))
        axes = (DynamicAxis("mask", 0, "batch"), DynamicAxis("mask", 1, "sequence"))
        other = resized({"mask": mask}, axes, {"batch": row_size, "sequence": column_size})
        assert sizes_of(other, axes) == {"batch": row_size, "sequence": column_size}
        assert other["mask"].any(axis=1).all()
        assert other["mask"].dtype == mask.dtype


def test_resizing_to_the_same_size_changes_nothing() -> None:
    axes = (DynamicAxis("ids", 0, "batch"), DynamicAxis("ids", 1, "sequence"))
    np.testing.assert_array_equal(resized({"ids": IDS}, axes, {"batch": 2, "sequence": 3})["ids"], IDS)
