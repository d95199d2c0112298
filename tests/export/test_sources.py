"""What can be exported, and the sentences for what cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trt_mpq.errors import DataError, ModelError, TrtMpqError
from trt_mpq.export import ExportOptions, is_torch_source
from trt_mpq.export.sources import _example_inputs, load_source

HERE = "tests.export.networks"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("networks:small", True),
        ("package.networks:Small", True),
        ("net.onnx", False),
        ("job.toml", False),
        ("C:net.onnx", False),
        (r"C:\networks\net.onnx", False),
        ("folder/networks:small", False),
        ("networks:", False),
        ("absent", False),
    ],
)
def test_what_is_a_torch_source(text: str, expected: bool) -> None:
    assert is_torch_source(text) is expected


def test_a_file_is_a_file_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_torch_source("a:b")
    Path("a:b").touch()
    assert not is_torch_source("a:b")


def test_a_model_folder_is_a_torch_source(tmp_path: Path) -> None:
    assert not is_torch_source(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert is_torch_source(str(tmp_path))


REFUSED: dict[str, tuple[type[TrtMpqError], str]] = {
    "absent_module:net": (
        ModelError,
        "cannot be imported (it raised ModuleNotFoundError: No module named 'absent_module')",
    ),
    f"{HERE}:absent": (ModelError, "has no attribute 'absent'"),
    f"{HERE}:THREE": (ModelError, "is of type int: it must be a function that returns a module"),
    f"{HERE}:no_module": (ModelError, "gives an object of type int"),
    f"{HERE}:lost": (ModelError, "raised ValueError: lost the"),
    f"{HERE}:no_examples": (DataError, "there are no example inputs"),
    f"{HERE}:wrong_names": (DataError, "the inputs (y) do not fit"),
    f"{HERE}:no_tensor": (DataError, "input 'x' of tests.export.networks:no_tensor is of type float"),
    "nothing/here": (ModelError, "nothing/here is nothing to export"),
}


@pytest.mark.parametrize("source", REFUSED)
def test_refusals(source: str) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    kind, words = REFUSED[source]
    with pytest.raises(kind) as refusal:
        load_source(source, ExportOptions())
    assert words in str(refusal.value)


def test_a_module_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="exporting needs torch")
    (tmp_path / "my_factory_file.py").write_text(
        "import torch\n\ndef net():\n    print('loading')\n    return torch.nn.Linear(4, 2)\n"
    )
    np.savez(tmp_path / "x.npz", input=np.ones((9, 4), np.float64), labels=np.zeros(9))
    monkeypatch.chdir(tmp_path)
    options = ExportOptions(inputs="x.npz")
    loaded, again = load_source("my_factory_file:net", options), load_source("my_factory_file:net", options)
    assert {name: (value.dtype, value.shape) for name, value in loaded.feeds.items()} == {"input": ("float32", (4, 4))}
    assert loaded.module.digest() == again.module.digest()  # the weights are drawn with a seed of ours
    assert torch.is_grad_enabled()


def test_samples_are_for_modules_without_examples(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    np.savez(tmp_path / "x.npz", x=np.ones((6, 8), np.float32))
    options = ExportOptions(samples=str(tmp_path / "x.npz"))
    assert load_source(f"{HERE}:no_examples", options).feeds["x"].shape == (4, 8)
    assert load_source(f"{HERE}:scaled", options).feeds["x"].shape == (3, 8)


def test_integers_of_a_file_become_what_torch_wants(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, ids=np.ones((2, 3), np.int32), mask=np.ones((2, 3), np.uint8), image=np.ones((2, 3, 4), np.uint8))
    dtypes = {name: str(value.dtype) for name, value in _example_inputs(str(path)).items()}
    assert dtypes == {"ids": "int64", "mask": "int64", "image": "uint8"}


@pytest.mark.parametrize("source", ["absent.npz", "inputs.txt"])
def test_example_inputs_that_cannot_be_read(source: str) -> None:
    with pytest.raises(DataError, match=source):
        _example_inputs(source)
