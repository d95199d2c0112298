from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_mpq.dataset import Batch, Samples, open_samples, pad_batch, samples_from_arrays
from trt_mpq.errors import DataError
from trt_mpq.types import TensorSpec

IMAGE = (TensorSpec("input", "float32", ("batch", 3, 4, 4)),)
TOKENS = (TensorSpec("ids", "int64", ("batch", "seq")), TensorSpec("mask", "int64", ("batch", "seq")))


def images(count: int = 10) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 4, 4)).astype(np.float32)


def write_npz(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def joined(samples: Samples, size: int) -> dict[str, np.ndarray]:
    batches = list(samples.batches(size))
    return {name: np.concatenate([batch.feeds[name] for batch in batches]) for name in batches[0].feeds}


def test_npz_with_labels_streams_in_order(tmp_path: Path) -> None:
    values, labels = images(), np.arange(10, dtype=np.uint8)
    samples = open_samples(write_npz(tmp_path, input=values, labels=labels), IMAGE)
    assert (samples.count, samples.has_labels) == (10, True)
    batches = list(samples.batches(4))
    assert [(batch.start, batch.size) for batch in batches] == [(0, 4), (4, 4), (8, 2)]
    np.testing.assert_array_equal(np.concatenate([b.feeds["input"] for b in batches]), values)
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches if b.labels is not None]), labels)


def test_npz_without_labels(tmp_path: Path) -> None:
    samples = open_samples(str(write_npz(tmp_path, input=images())), IMAGE)
    assert not samples.has_labels
    assert next(samples.batches(2)).labels is None


def test_a_model_input_called_labels_is_an_input(tmp_path: Path) -> None:
    inputs = (TensorSpec("labels", "float32", ("batch", 2)),)
    samples = open_samples(write_npz(tmp_path, labels=np.ones((3, 2), np.float32)), inputs)
    assert not samples.has_labels
    assert list(next(samples.batches(3)).feeds) == ["labels"]


def test_npy_is_memory_mapped_and_streams(tmp_path: Path) -> None:
    values = images()
    np.save(tmp_path / "x.npy", values)
    samples = open_samples(tmp_path / "x.npy", IMAGE)
    assert isinstance(samples.columns["input"], np.memmap)
    np.testing.assert_array_equal(joined(samples, 3)["input"], values)


def test_batches_are_writable_copies(tmp_path: Path) -> None:
    samples = samples_from_arrays({"input": images()}, IMAGE)
    batch = next(samples.batches(2))
    batch.feeds["input"][:] = 0
    assert batch.feeds["input"].flags.c_contiguous
    assert next(samples.batches(2)).feeds["input"].any()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int16", "bool"])
def test_integers_widen_without_loss(dtype: str) -> None:
    values = np.array([[0, 1], [1, 1]]).astype(dtype)
    feeds = joined(samples_from_arrays({"ids": values, "mask": values}, TOKENS), 1)
    assert feeds["ids"].dtype == np.int64
    np.testing.assert_array_equal(feeds["ids"], values)


def test_other_byte_order_is_the_same_dtype() -> None:
    values = images()
    feeds = joined(samples_from_arrays({"input": values.astype(">f4")}, IMAGE), 4)
    assert feeds["input"].dtype == np.float32
    np.testing.assert_array_equal(feeds["input"], values)


def test_fixed_batch_dimension_accepts_any_number_of_samples() -> None:
    fixed = (TensorSpec("input", "float32", (1, 3, 4, 4)),)
    assert samples_from_arrays({"input": images()}, fixed).count == 10


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": images()}, "lacks 'input' and has the surplus 'image': the model's inputs are 'input' float32"),
        ({"input": images(), "extra": images()}, "has the surplus 'extra'"),
        ({"input": images().astype(np.float64)}, "is float64 but the model wants float32.*astype\\(np.float32\\)"),
        ({"input": images().astype(np.float16)}, "is float16 but the model wants float32.*astype\\(np.float32\\)"),
        ({"input": np.zeros((5, 3, 4, 4), np.uint8)}, "is uint8 but the model wants float32: .*recipe"),
        ({"input": images()[0]}, r"has shape \[4, 4\] but the model wants \[3, 4, 4\]"),
        ({"input": images().transpose(0, 2, 3, 1)}, r"has shape \[4, 4, 3\] but the model wants \[3, 4, 4\]"),
        ({"input": images(0)}, "holds no samples"),
        ({"input": np.float32(1)}, "'input' is a single number"),
        ({"input": images(), "labels": np.arange(9)}, "row counts differ: 'input' 10, 'labels' 9"),
        ({"input": images(), "labels": np.array(3)}, "'labels' is a single number"),
        ({"input": images(), "labels": np.full(10, np.nan)}, "'labels' holds NaN or inf, first in sample 0"),
        ({"input": np.array([["a"]])}, "has shape"),
    ],
)
def test_npz_that_does_not_fit_is_refused_in_one_sentence(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = write_npz(tmp_path, **arrays)
    with pytest.raises(DataError, match=message) as error:
        open_samples(path, IMAGE)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_narrowing_integers_is_refused(dtype: str) -> None:
    inputs = (TensorSpec("ids", "int32", ("batch",)),)
    with pytest.raises(DataError, match=rf"is {dtype} but the model wants int32: convert it with .astype\(np.int32\)"):
        samples_from_arrays({"ids": np.ones(3, dtype)}, inputs)


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match="row counts differ: 'ids' 3, 'mask' 2"):
        samples_from_arrays({"ids": np.ones((3, 2), int), "mask": np.ones((2, 2), int)}, TOKENS)


def test_scalar_model_input_is_refused() -> None:
    with pytest.raises(DataError, match="'threshold' of the model is a scalar"):
        samples_from_arrays({"threshold": np.ones(2, np.float32)}, (TensorSpec("threshold", "float32", ()),))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_npz_with_a_bad_value_names_array_and_sample_when_opened(tmp_path: Path, value: float) -> None:
    values = images()
    values[7, 1, 2, 3] = value
    with pytest.raises(DataError, match="array 'input' holds NaN or inf, first in sample 7"):
        open_samples(write_npz(tmp_path, input=values), IMAGE)


def test_npy_with_a_bad_value_names_the_sample_while_streaming(tmp_path: Path) -> None:
    values = images()
    values[7, 1, 2, 3] = np.nan
    np.save(tmp_path / "x.npy", values)
    samples = open_samples(tmp_path / "x.npy", IMAGE)
    stream = samples.batches(5)
    assert next(stream).size == 5
    with pytest.raises(DataError, match="first in sample 7"):
        next(stream)


def damaged_npz(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "pickle":
        np.savez(buffer, input=np.array([{}, 1], dtype=object), allow_pickle=True)
        return buffer.getvalue()
    if kind == "text member":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("input", "hello")
        return buffer.getvalue()
    np.savez_compressed(buffer, input=images())
    whole = buffer.getvalue()
    flipped = bytearray(whole)
    flipped[300] ^= 0xFF
    npy = io.BytesIO()
    np.save(npy, images())
    return {
        "empty": b"",
        "garbage": b"not an archive" * 9,
        "truncated": whole[: len(whole) // 2],
        "flipped": bytes(flipped),
        "renamed npy": npy.getvalue(),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "is no .npz file"),
        ("garbage", "is no .npz file"),
        ("truncated", "is no .npz file"),
        ("renamed npy", "is no .npz file"),
        ("flipped", "cannot be read"),
        ("text member", "member 'input' is no array"),
        ("pickle", "holds pickled Python objects"),
    ],
)
def test_damaged_npz_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(damaged_npz(kind))
    with pytest.raises(DataError, match=f"{re.escape(str(path))}.*{message}"):
        open_samples(path, IMAGE)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00" + b"(" * 118])
def test_damaged_npy_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npy cannot be read"):
        open_samples(path, IMAGE)


def test_truncated_and_pickled_npy_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images())
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-1])
    with pytest.raises(DataError, match="cannot be read"):
        open_samples(tmp_path / "x.npy", IMAGE)
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled Python objects"):
        open_samples(tmp_path / "o.npy", IMAGE)


@pytest.mark.parametrize("name", ["absent.npz", "absent.npy"])
def test_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name} does not exist"):
        open_samples(tmp_path / name, IMAGE)


def test_npy_needs_a_model_with_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.int64))
    with pytest.raises(DataError, match=r"holds one input but the model wants 'ids'.*'mask'"):
        open_samples(tmp_path / "x.npy", TOKENS)


def test_source_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no folder, no .npz, .npy or .toml file and no known recipe"):
        open_samples(tmp_path / "nothing", IMAGE)


@given(size=st.integers(1, 13), limit=st.none() | st.integers(0, 13))
def test_batches_partition_the_first_samples(size: int, limit: int | None) -> None:
    values, labels = images(), np.arange(10)
    batches = list(samples_from_arrays({"input": values}, IMAGE, labels).batches(size, limit))
    expected = 10 if limit is None else min(limit, 10)
    assert sum(batch.size for batch in batches) == expected
    assert all(batch.size == size for batch in batches[:-1])
    for batch in batches:
        rows = slice(batch.start, batch.start + batch.size)
        np.testing.assert_array_equal(batch.feeds["input"], values[rows])
        np.testing.assert_array_equal(batch.labels, labels[rows])


@given(count=st.integers(1, 20))
def test_take_keeps_the_first_samples_and_changes_the_fingerprint(count: int) -> None:
    whole = samples_from_arrays({"input": images()}, IMAGE, np.arange(10))
    part = whole.take(count)
    assert part.count == min(count, 10)
    assert (part.fingerprint == whole.fingerprint) == (count >= 10)
    np.testing.assert_array_equal(joined(part, 4)["input"], joined(whole, 10)["input"][:count])
    labels = [batch.labels for batch in part.batches(3)]
    assert sum(len(values) for values in labels if values is not None) == part.count


def test_take_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="cannot take 0 samples"):
        samples_from_arrays({"input": images()}, IMAGE).take(0)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch size must be at least 1"):
        next(samples_from_arrays({"input": images()}, IMAGE).batches(0))


def test_fingerprint_depends_on_content_alone(tmp_path: Path) -> None:
    values, labels = images(), np.arange(10)
    stored = open_samples(write_npz(tmp_path, input=values, labels=labels), IMAGE)
    np.savez_compressed(tmp_path / "other.npz", labels=labels, input=values)
    compressed = open_samples(tmp_path / "other.npz", IMAGE)
    assert stored.fingerprint == compressed.fingerprint
    list(stored.batches(3))
    assert stored.fingerprint == compressed.fingerprint
    changed = values.copy()
    changed[9, 2, 3, 3] += 1
    prints = {
        samples_from_arrays({"input": array}, IMAGE, given).fingerprint
        for array, given in ((values, labels), (changed, labels), (values, labels + 1), (values, None))
    }
    assert len(prints) == 4


def test_fingerprint_hashes_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    values = images()
    whole = samples_from_arrays({"input": values}, IMAGE).fingerprint
    monkeypatch.setattr("trt_mpq.dataset.arrays._CHUNK_BYTES", 100)
    assert samples_from_arrays({"input": values}, IMAGE).fingerprint == whole


@given(size=st.integers(1, 6), target=st.integers(1, 8))
def test_padding_repeats_the_last_sample(size: int, target: int) -> None:
    batch = Batch({"input": images()[:size]}, np.arange(size), 4 + np.arange(size), start=4)
    if target < size:
        with pytest.raises(ValueError, match="cannot be padded"):
            pad_batch(batch, target)
        return
    padded = pad_batch(batch, target)
    rows = np.minimum(np.arange(target), size - 1)
    assert (padded.size, padded.start) == (target, 4)
    np.testing.assert_array_equal(padded.feeds["input"], batch.feeds["input"][rows])
    np.testing.assert_array_equal(padded.labels, np.arange(size)[rows])
    np.testing.assert_array_equal(padded.numbers, 4 + rows)


BERT = (*TOKENS, TensorSpec("token_type_ids", "int64", ("batch", "seq")))


def test_absent_segments_are_zeros_with_a_note(tmp_path: Path) -> None:
    ids = np.arange(12).reshape(3, 4)
    samples = open_samples(write_npz(tmp_path, ids=ids, mask=np.ones_like(ids)), BERT)
    batch = next(samples.batches(3)).feeds
    np.testing.assert_array_equal(batch["token_type_ids"], np.zeros((3, 4), np.int64))
    assert batch["token_type_ids"].dtype == np.int64
    assert any("has no token_type_ids: they are 0" in note for note in samples.notes)
    (tmp_path / "my.toml").write_text('root = "."\n[splits.all]\narrays = "data.npz"\n[inputs.ids]\n[inputs.mask]\n')
    again = open_samples(tmp_path / "my.toml", BERT)
    np.testing.assert_array_equal(next(again.batches(3)).feeds["token_type_ids"], np.zeros((3, 4)))
    assert again.notes == (f"{tmp_path / 'my.toml'} has no token_type_ids: they are 0, as for texts of one segment",)


def test_other_absent_inputs_are_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path, ids=np.zeros((3, 4), np.int64))
    with pytest.raises(DataError, match="lacks 'mask'"):
        open_samples(path, TOKENS)
    with pytest.raises(DataError, match="lacks 'mask', 'token_type_ids'"):
        open_samples(path, BERT)
