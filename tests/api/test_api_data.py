"""Data of a Python program: the same arrays out of everything that holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from trt_mpq.api.data import Expected, arrays_from
from trt_mpq.errors import DataError

ONE = Expected(("x",), 1, {"x": "float32"}, {"x": 2})
TWO = Expected(("ids", "mask"), 2, {"ids": "int64", "mask": "int64"}, {"ids": 2, "mask": 2})
X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.arange(6)
IDS = np.arange(18).reshape(6, 3)


def batches() -> Iterator[tuple[Any, Any]]:
    yield from ((X[start : start + 2], Y[start : start + 2]) for start in (0, 2, 4))


class Samples:
    """A data set as torch has them, without torch."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return X[index], int(Y[index])


HOLDERS: dict[str, Callable[[], Any]] = {
    "arrays": lambda: (X, Y),
    "doubles": lambda: (X.astype(np.float64), Y),
    "mapping": lambda: {"x": X, "labels": Y},
    "mapping with a label": lambda: {"x": X, "label": Y},
    "mapping and labels": lambda: ({"x": X}, Y),
    "iterator": batches,
    "list of batches": lambda: list(batches()),
    "list of samples": lambda: [(x, y) for x, y in zip(X, Y, strict=True)],
    "list of mappings": lambda: [{"x": x, "labels": y, "text": "what it was"} for x, y in batches()],
    "data set": Samples,
    "function": lambda: batches,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_every_holder_gives_the_same(holder: str) -> None:
    found = arrays_from(HOLDERS[holder](), ONE, "calib=")
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["labels"], Y)
    assert found["x"].dtype == np.float32


@pytest.mark.parametrize("holder", HOLDERS)
def test_no_more_is_taken_than_asked_for(holder: str) -> None:
    found = arrays_from(HOLDERS[holder](), ONE, "calib=", limit=3)
    assert {name: len(array) for name, array in found.items()} == {"x": 3, "labels": 3}


def test_no_more_is_drawn_than_asked_for() -> None:
    drawn = []

    def endless() -> Iterator[Any]:
        while True:
            drawn.append(1)
            yield X

    assert len(arrays_from(endless(), ONE, "calib=", limit=10)["x"]) == 10
    assert len(drawn) == 2


def test_torch_loaders_and_data_sets() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))

    class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[Any]:
            yield from data

    loaders = (torch.utils.data.DataLoader(data, batch_size=4), torch.utils.data.DataLoader(Stream(), batch_size=4))
    for holder in (*loaders, data, Stream(), (torch.tensor(X, requires_grad=True), torch.tensor(Y))):
        found = arrays_from(holder, ONE, "eval=")
        np.testing.assert_array_equal(found["x"], X)
        np.testing.assert_array_equal(found["labels"], Y)
    halves = arrays_from(torch.tensor(X, dtype=torch.bfloat16), ONE, "eval=")
    np.testing.assert_array_equal(halves["x"], X)


def test_hugging_face_data_sets() -> None:
    datasets = pytest.importorskip("datasets", reason="the library `datasets` is not installed")
    pyarrow = pytest.importorskip("pyarrow")

    def table(**columns: Any) -> Any:
        """Not by `from_dict`, which needs a serializer that fails beside some versions of pyarrow."""
        held = {"label": Y.tolist(), "text": ["a"] * 6, **columns}
        return datasets.Dataset(datasets.table.InMemoryTable(pyarrow.table(held)), fingerprint=str(held))

    data = table(ids=IDS.tolist(), mask=np.ones_like(IDS).tolist())
    for holder in (data, data.to_iterable_dataset()):
        found = arrays_from(holder, TWO, "calib=", limit=4)
        np.testing.assert_array_equal(found["ids"], IDS[:4])
        np.testing.assert_array_equal(found["labels"], Y[:4])
        assert sorted(found) == ["ids", "labels", "mask"]
    with pytest.raises(DataError, match="pad them to one"):
        arrays_from(table(ids=[[1], [1, 2]] * 3, mask=[[1], [1, 2]] * 3), TWO, "calib=")


def test_several_inputs_go_by_order_or_name() -> None:
    mask = np.ones_like(IDS)
    for holder in ((IDS, mask, Y), {"ids": IDS, "mask": mask, "labels": Y}, [(IDS[:2], mask[:2], Y[:2])] * 3):
        assert sorted(arrays_from(holder, TWO, "calib=")) == ["ids", "labels", "mask"]
    narrow = Expected(("ids",), 1, {"ids": "int32"}, {"ids": 2})
    assert arrays_from(IDS, narrow, "calib=")["ids"].dtype == np.int32


def broken() -> Any:
    raise KeyError("column")


@pytest.mark.parametrize(
    ("data", "expected", "said"),
    [
        (object(), ONE, "is an object of type object"),
        ((X, Y, Y), ONE, "gives 3 arrays and the model has 1 inputs"),
        ([], ONE, "yields nothing"),
        ([(X, Y), X], ONE, "yields x after x, labels: give the same of every batch"),
        ([X, X[:, :1]], ONE, "different lengths"),
        ({"x": [[1.0], [1.0, 2.0]]}, Expected(("x",), 1), "different lengths"),
        ({"labels": Y}, ONE, "none of the model's inputs, which are x"),
        ({"x": np.array([None, {}])}, ONE, "Python objects"),
        (broken, ONE, "raised KeyError"),
        (np.array([[1 << 40]]), Expected(("ids",), 1, {"ids": "int32"}), "holds values that the int32"),
    ],
)
def test_what_does_not_fit_is_said(data: Any, expected: Expected, said: str) -> None:
    with pytest.raises(DataError, match=said):
        arrays_from(data, expected, "calib=")


def test_too_much_is_refused_before_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trt_mpq.api.data._MOST_BYTES", 100)
    with pytest.raises(DataError, match="take fewer"):
        arrays_from([X] * 9, ONE, "calib=")
