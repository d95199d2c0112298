"""Samples of several rows, and padded ones that are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.dataset import Batch, Samples, open_samples, pad_batch
from trt_mpq.dataset.samples import checked_samples
from trt_mpq.errors import DataError
from trt_mpq.types import TensorSpec

WIDTH = 7
TOKENS = (TensorSpec("ids", "int64", ("batch", "seq")), TensorSpec("mask", "int64", ("batch", "seq")))


def arrays(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Token ids that name their row and position, and a mask with 1 to 7 real positions."""
    lengths = np.random.default_rng(seed).integers(1, WIDTH + 1, rows)
    mask = (np.arange(WIDTH) < lengths[:, None]).astype(np.uint8)
    return {"ids": (100 * np.arange(rows)[:, None] + np.arange(WIDTH)).astype(np.int32), "mask": mask}


def padded(count: int, rows: int = 1, labels: np.ndarray | None = None, trim: str | None = "mask") -> Samples:
    columns = arrays(count * rows)
    return checked_samples(columns, TOKENS, labels, "data", "content", rows=rows, trim=trim)


@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 9), st.none() | st.integers(1, 20))
def test_every_sample_is_delivered_once_cut_to_its_longest_row(
    count: int, rows: int, size: int, limit: int | None
) -> None:
    labels = np.arange(count)
    whole, seen, last = arrays(count * rows), [], WIDTH
    for batch in padded(count, rows, labels).by_length(size, limit):
        assert batch.start == len(seen)
        assert batch.size == len(batch.labels) <= size
        assert batch.numbers.tolist() == batch.labels.tolist()
        length = batch.feeds["ids"].shape[1]
        assert length <= last
        last = length
        for place, number in enumerate(batch.labels):
            own = slice(number * rows, (number + 1) * rows)
            assert whole["mask"][own].sum(axis=1).max() == length
            for name, array in batch.feeds.items():
                assert array.dtype == np.int64
                assert array.flags.c_contiguous
                np.testing.assert_array_equal(array[place * rows : (place + 1) * rows], whole[name][own, :length])
        seen += batch.labels.tolist()
    assert sorted(seen) == list(range(min(count, count if limit is None else limit)))


@given(st.integers(1, 12), st.integers(1, 12))
def test_what_a_sample_looks_like_does_not_depend_on_the_batch(first: int, second: int) -> None:
    def delivered(size: int) -> list[tuple[int, bytes]]:
        batches = list(padded(12).by_length(size))
        return [(n, row.tobytes()) for b in batches for n, row in zip(b.numbers, b.feeds["ids"], strict=True)]

    assert delivered(first) == delivered(second)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["mask", None]))
def test_no_batch_reaches_across_a_block(size: int, block: int, trim: str | None) -> None:
    batches = list(padded(17, trim=trim).by_length(size, None, block))
    assert all(batch.start // block == (batch.start + batch.size - 1) // block for batch in batches)
    assert all(batch.size <= size for batch in batches)
    assert sorted(np.concatenate([batch.numbers for batch in batches])) == list(range(17))


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(["mask", None]))
def test_batches_that_taper_have_a_fair_share_of_what_is_left(size: int, least: int, trim: str | None) -> None:
    batches = list(padded(17, trim=trim).by_length(size, least=least))
    assert sorted(np.concatenate([batch.numbers for batch in batches])) == list(range(17))
    assert all(batch.size <= max(min(size, least), (17 - batch.start + 3) // 4) for batch in batches)
    assert all(batch.size <= size for batch in batches)
    if trim is None:
        assert all(batch.size >= min(size, least) for batch in batches[:-1])
        assert [batch.size for batch in batches] == sorted((batch.size for batch in batches), reverse=True)


def test_batches_stay_in_order_and_uncut() -> None:
    batches = list(padded(5, 2, np.arange(5)).batches(2))
    assert [(b.start, b.size, b.feeds["ids"].shape) for b in batches] == [
        (0, 2, (4, 7)),
        (2, 2, (4, 7)),
        (4, 1, (2, 7)),
    ]
    np.testing.assert_array_equal(np.concatenate([b.feeds["ids"] for b in batches]), arrays(10)["ids"])
    assert np.concatenate([b.labels for b in batches]).tolist() == list(range(5))


def test_without_padding_the_order_is_that_of_the_data() -> None:
    for samples in (padded(5, trim=None), padded(5).uncut()):
        found, expected = list(samples.by_length(2)), list(samples.batches(2))
        assert [b.start for b in found] == [b.start for b in expected]
        np.testing.assert_array_equal(found[1].feeds["ids"], expected[1].feeds["ids"])


def test_labels_per_position_are_cut_too() -> None:
    samples = padded(6, labels=arrays(6)["ids"])
    assert all(np.array_equal(batch.labels, batch.feeds["ids"]) for batch in samples.by_length(2))
    spans = padded(6, labels=np.zeros((6, 2), int))
    assert all(batch.labels.shape[1] == 2 for batch in spans.by_length(2))


@given(
    count=st.integers(1, 20), rows=st.integers(1, 3), size=st.integers(1, 6), trim=st.sampled_from([None, "mask"]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_selected_samples_are_those_of_the_data_in_the_order_asked_for(
    count: int, rows: int, size: int, trim: str | None, seed: int
) -> None:
    data = padded(count, rows, np.arange(count), trim)
    numbers = np.random.default_rng(seed).permutation(count)[: max(1, count // 2)]
    alone = {batch.numbers[0]: batch for batch in data.by_length(1)}
    selected = data.select(numbers)
    assert selected.count == len(numbers)
    seen: list[int] = []
    for batch in selected.by_length(size):
        for i, own in enumerate(batch.numbers):
            expected = alone[numbers[own]]
            assert batch.labels[i] == numbers[own] == expected.labels[0]
            for name, array in batch.feeds.items():
                np.testing.assert_array_equal(array[i * rows : (i + 1) * rows], expected.feeds[name])
            seen.append(own)
    assert sorted(seen) == list(range(len(numbers)))
    assert selected.fingerprint not in (data.fingerprint, data.take(len(numbers)).fingerprint)


def test_single_rows_have_no_labels_but_the_same_content() -> None:
    pairs = padded(4, 2, np.arange(4))
    single = pairs.single_rows()
    assert (single.count, single.rows, single.has_labels) == (8, 1, False)
    np.testing.assert_array_equal(next(single.batches(8)).feeds["ids"], arrays(8)["ids"])
    assert {len(np.unique(batch.feeds["mask"].sum(axis=1))) for batch in single.by_length(3)} == {1}
    assert single.fingerprint != pairs.take(8).fingerprint
    assert padded(3).single_rows().count == 3


def test_rows_are_part_of_the_fingerprint() -> None:
    assert padded(4, 2).fingerprint != padded(4, 1).fingerprint


def test_other_axes_of_the_same_name_are_cut_and_no_others() -> None:
    inputs = (*TOKENS, TensorSpec("bias", "float32", ("batch", 1, "seq", "seq")), TensorSpec("x", "float32", ("b", 7)))
    columns = {**arrays(3), "bias": np.zeros((3, 1, 7, 7), np.float32), "x": np.zeros((3, 7), np.float32)}
    for batch in checked_samples(columns, inputs, None, "data", "", trim="mask").by_length(3):
        length = batch.feeds["ids"].shape[1]
        assert batch.feeds["bias"].shape[1:] == (1, length, length)
        assert batch.feeds["x"].shape[1:] == (7,)


def test_padding_in_front_is_kept_and_an_empty_row_has_one_position() -> None:
    mask = np.array([[0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]], np.uint8)
    samples = checked_samples({"ids": mask, "mask": mask}, TOKENS, None, "data", "", trim="mask")
    shapes = {int(b.numbers[0]): b.feeds["ids"].shape[1] for b in samples.by_length(1)}
    assert shapes == {0: 4, 1: 1, 2: 5}


@pytest.mark.parametrize("positions", [WIDTH, "?"])
def test_a_model_without_dynamic_positions_is_fed_uncut_and_says_so(positions: int | str) -> None:
    inputs = tuple(TensorSpec(spec.name, spec.dtype, ("batch", positions)) for spec in TOKENS)
    samples = checked_samples(arrays(4), inputs, None, "data", "", trim="mask")
    assert samples.notes == ("data: `trim` is ignored, because the model has no named dynamic axis to cut 'mask' on",)
    assert [batch.feeds["ids"].shape for batch in samples.by_length(3)] == [(3, 7), (1, 7)]


def test_a_bad_value_in_a_cut_batch_names_its_sample() -> None:
    inputs = (TensorSpec("x", "float32", ("batch", "seq")), TOKENS[1])
    values = np.ones((4, WIDTH), np.float32)
    values[2, 0] = np.nan
    mask = (np.arange(WIDTH) < np.array([1, 1, 5, 7])[:, None]).astype(int)
    samples = checked_samples({"x": values, "mask": mask}, inputs, None, "data", "", rows=2, trim="mask")
    with pytest.raises(DataError, match="array 'x' holds NaN or inf, first in sample 1"):
        list(samples.by_length(1))


def test_a_fixed_batch_must_hold_whole_samples() -> None:
    inputs = tuple(TensorSpec(spec.name, spec.dtype, (3, "seq")) for spec in TOKENS)
    with pytest.raises(DataError, match="a sample is 2 rows and input 'ids' of the model has a fixed batch of 3"):
        checked_samples(arrays(4), inputs, None, "data", "", rows=2)


def test_filling_a_batch_of_pairs_counts_rows() -> None:
    batch = Batch({"ids": np.arange(4)[:, None]}, np.array([7, 8]), np.arange(2), 0, 2)
    filled = pad_batch(batch, 8)
    assert filled.feeds["ids"].ravel().tolist() == [0, 1, 2, 3, 3, 3, 3, 3]
    assert (filled.size, filled.labels.tolist()) == (4, [7, 8, 8, 8])
    with pytest.raises(ValueError, match="a batch of 4 rows cannot be padded to 3"):
        pad_batch(batch, 3)


# In recipes.

RECIPE = """
root = "."
trim = "mask"
[splits.single]
arrays = "single.npz"
[splits.pairs]
arrays = "pairs.npz"
rows_per_sample = 2
labels = "score"
count = 3
seed = 1
[inputs.ids]
[inputs.mask]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    np.savez(tmp_path / "single.npz", **arrays(5))
    pairs = {name: array.reshape(5, 2, WIDTH) for name, array in arrays(10).items()}
    np.savez(tmp_path / "pairs.npz", **pairs, score=np.arange(5, dtype=np.float32))
    (tmp_path / "my.toml").write_text(RECIPE)
    return tmp_path / "my.toml"


def test_a_recipe_gives_pairs_with_their_labels(recipe: Path) -> None:
    samples = open_samples(f"{recipe}:pairs", TOKENS)
    assert (samples.count, samples.rows, samples.has_labels) == (3, 2, True)
    for batch in samples.by_length(2):
        firsts = batch.feeds["ids"].reshape(batch.size, 2, -1)[:, :, 0]
        np.testing.assert_array_equal(firsts, batch.labels[:, None] * 200 + [0, 100])


def test_splits_of_a_recipe_differ_in_rows_and_labels(recipe: Path) -> None:
    samples = open_samples(f"{recipe}:single", TOKENS)
    assert (samples.count, samples.rows, samples.has_labels) == (5, 1, False)
    assert samples.padding is not None


def test_trim_is_part_of_the_fingerprint(recipe: Path) -> None:
    before = open_samples(f"{recipe}:single", TOKENS).fingerprint
    recipe.write_text(RECIPE.replace('trim = "mask"', ""))
    assert open_samples(f"{recipe}:single", TOKENS).fingerprint != before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('trim = "mask"', 'trim = "masks"', "`trim` names 'masks', which is none of the inputs ids, mask"),
        ("rows_per_sample = 2", "rows_per_sample = 0", "splits.pairs.rows_per_sample: Input should be greater than 0"),
        ("rows_per_sample = 2", "rows_per_sample = 3", "and `rows_per_sample` = 3 wants [samples, 3, ...]"),
        ("rows_per_sample = 2\n", "", "one sample of array 'ids' has shape [2, 7] but the model wants [seq]"),
        ('labels = "score"', 'labels = "gold"', "has no array 'gold': it has ids, mask, score"),
        ('arrays = "pairs.npz"', 'images = "x"', "splits.pairs: `rows_per_sample` belongs to `arrays`"),
    ],
)
def test_bad_recipes_are_refused(recipe: Path, old: str, new: str, message: str) -> None:
    recipe.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        open_samples(f"{recipe}:pairs", TOKENS)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mask_has_two_axes(recipe: Path) -> None:
    inputs = (TOKENS[0], TensorSpec("mask", "int64", ("batch", "seq", 1)))
    columns = {**arrays(4), "mask": arrays(4)["mask"][:, :, None]}
    with pytest.raises(DataError, match="`trim` names 'mask', which has 3 axes: it needs a mask"):
        checked_samples(columns, inputs, None, "data", "", trim="mask")
