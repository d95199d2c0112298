"""The real models and data that benchmarks run on."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

DATA = Path(os.environ.get("TRT_MPQ_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
os.environ.setdefault("TRT_MPQ_DATA", str(DATA))


@dataclass(frozen=True)
class RealModel:
    """A model with its data, and how many evaluation samples a long table can afford."""

    name: str
    file: str
    calib: str
    eval: str
    eval_samples: int

    @property
    def path(self) -> Path:
        if not DATA.is_dir():
            sys.exit(f"real models and data are absent from {DATA}: set TRT_MPQ_DATA to their folder")
        return DATA / self.file


MODELS = {
    model.name: model
    for model in (
        RealModel("resnet20", "cifar10/resnet20.onnx", "cifar10-resnet:calib", "cifar10-resnet:test", 1000),
        RealModel("resnet56", "cifar10/resnet56.onnx", "cifar10-resnet:calib", "cifar10-resnet:test", 500),
        RealModel(
            "mobilenet",
            "imagenet/mobilenet_v1_075_224.onnx",
            "imagenet-mobilenet:calib",
            "imagenet-mobilenet:test",
            400,
        ),
    )
}
