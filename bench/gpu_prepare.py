"""What `make gpu-bench` measures, made on any machine: one run folder per network, so that a GPU host needs no data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.networks import random_images, write_resnet50
from bench.real import MODELS
from trt_mpq.artifacts.files import atomic_path
from trt_mpq.pipeline.run import Run
from trt_mpq.settings import settings_from
from trt_mpq.types.observer import Observer

CACHE = Path(__file__).parent / "cache" / "gpu"
RANDOM_SAMPLES = 16


@dataclass(frozen=True)
class Subject:
    """A network to measure, and what its search has to keep: this share of its FP32 score by this metric."""

    name: str
    metric: str
    target_accuracy: float
    eval_samples: int


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("resnet20", "top1", 0.999, 5000),
        Subject("resnet56", "top1", 0.999, 1000),
        Subject("resnet50-random", "sqnr", 0.9999, RANDOM_SAMPLES),
    )
}
"""The last has random weights and no labels: its plan keeps the error of its outputs on random images below -40 dB."""


def prepare(subject: Subject, folder: Path, observer: Observer, threads: int) -> None:
    """Search the plans of `subject`, INT8 and FP8 apart; `folder` then is a run folder without engines."""
    settings = settings_from(
        {
            **_files(subject),
            "metric": subject.metric, "target_accuracy": subject.target_accuracy,
            "eval_samples": subject.eval_samples, "precisions": ("fp16", "int8", "fp8"),
            "sensitivity": "quantization-error", "search": "bisection", "latency": "modelled", "threads": threads,
        },
        "bench.gpu prepare",
    )  # fmt: skip
    Run(settings, folder, observer, "bench.gpu prepare").search()


def _files(subject: Subject) -> dict[str, Any]:
    if subject.name in MODELS:
        real = MODELS[subject.name]
        return {"model": real.path, "calib": real.calib, "eval": real.eval, "calib_samples": 256}
    model = write_resnet50(CACHE / f"{subject.name}.onnx")
    return {"model": model, "calib": str(_images("calib", 1)), "eval": str(_images("eval", 2)), "batch": 8}


def _images(name: str, seed: int) -> Path:
    path = CACHE / f"{name}.npz"
    if not path.exists():
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, input=random_images(RANDOM_SAMPLES, seed))
    return path
