"""Real input with nothing to fetch: the UCI handwritten digits that scikit-learn ships, and a network for them.

Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998:
1,797 images of 8 x 8 pixels with values 0..16. The network is `_data/digits_resnet.onnx`, trained by
`bench/train_digits.py` on the training split below.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_mpq.artifacts.files import atomic_path, cannot_write, sha256_of
from trt_mpq.artifacts.store import opened_folder
from trt_mpq.errors import RunFolderError, missing

MODEL = Path(__file__).resolve().parent / "_data" / "digits_resnet.onnx"
_TRAIN_SAMPLES = 1000
_CALIB_SAMPLES = 256
_WHITE = 16.0
"""Largest pixel value of the data set."""
PREMISE = (
    "by top-1 accuracy these digits let every layer run in INT8, so the demo asks for outputs within 40 dB of FP32"
)
"""Why the goal of the demo is an output fidelity: sqnr 0.9999 is a noise power of 1e-4 of the signal."""


@dataclass(frozen=True)
class Digits:
    """Images float32 [n, 1, 8, 8] in 0..1 and their classes int64 [n], 0..9."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __getitem__(self, rows: slice) -> Digits:
        return Digits(self.images[rows], self.labels[rows])


def load_digits() -> tuple[Digits, Digits]:
    """The digits split for good into training (1,000) and evaluation (797), shuffled with a fixed seed.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise missing("scikit-learn", "the demo", "demo") from error
    pixels, classes = datasets.load_digits(return_X_y=True)
    images = (pixels / _WHITE).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(0).permutation(len(images))
    digits = Digits(images[order], classes[order].astype(np.int64))
    return digits[:_TRAIN_SAMPLES], digits[_TRAIN_SAMPLES:]


def prepare_demo(folder: Path) -> dict[str, Any]:
    """Write `data/calib.npz` and `data/eval.npz` into the run folder; calibration images are training images.

    Returns:
        The fields of `Settings` that make a build of the demo.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        RunFolderError: The folder cannot be written or belongs to another model.
    """
    train, evaluation = load_digits()
    opened_folder(folder, sha256_of(MODEL))
    calib, evaluate = folder / "data" / "calib.npz", folder / "data" / "eval.npz"
    try:
        calib.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(cannot_write(calib, error)) from error
    _write_npz(calib, train[:_CALIB_SAMPLES])
    _write_npz(evaluate, evaluation)
    return {
        "model": str(MODEL),
        "calib": str(calib),
        "eval": str(evaluate),
        "metric": "sqnr",
        "target_accuracy": 0.9999,
        "precisions": ("fp16", "int8"),
        "device": "rtx4090",
        "batch": 256,
    }


def _write_npz(path: Path, digits: Digits) -> None:
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, image=digits.images, labels=digits.labels)
