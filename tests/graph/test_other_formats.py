"""Models in other formats get the sentence that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_mpq.errors import ModelError
from trt_mpq.export import is_torch_source
from trt_mpq.graph.other_formats import advice_for
from trt_mpq.model import load_graph

SAID = {
    "best.pt": "give module:function in place of the file",
    "net.py:make": "is a path: write net:make",
    "nets/net.py:make": "write nets.net:make",
    "net.py": "as in net:build",
    "model.tflite": "--tflite model.tflite",
    "model.h5": "tf2onnx",
    "model.safetensors": "Hugging Face folder",
    "model.engine": "is an engine, which holds no network to search",
    "data.npz": "after --calib or --eval",
}


@pytest.mark.parametrize("source", SAID)
def test_a_known_format_is_named_with_the_way_out(source: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_graph(Path(source))
    assert str(caught.value).startswith(f"{source} is ") or "holds" in str(caught.value)
    assert SAID[source] in str(caught.value)


def test_a_saved_model_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert "--saved-model" in str(advice_for(str(tmp_path)))


@pytest.mark.parametrize("source", ["model.onnx", "model", "folder/", "model.onnx.gz"])
def test_others_are_left_to_what_reads_them(source: str) -> None:
    assert advice_for(source) is None


def test_a_path_of_python_is_not_taken_for_a_module() -> None:
    assert is_torch_source("net:make")
    assert not is_torch_source("net.py:make")
