"""The real models and data that benchmarks run on."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DATA = Path(os.environ.get("TRT_MPQ_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
os.environ.setdefault("TRT_MPQ_DATA", str(DATA))


@dataclass(frozen=True)
class RealModel:
    """A model with its data.

    Attributes:
        eval_samples: Evaluation samples that a long table can afford.
        cost_samples: Enough of them to time an evaluation.
        hessian_samples: Calibration samples for the Hessian, whose cost per sample differs most between networks.
        metric: What its users go by.
        ladders: What is searched: INT8, FP8, and the paper's 16/8/4 bits for convolutions.
        made: Makes the file out of a package, where it does not lie among the data.
        batch: Samples per inference that latencies are told for.
        outputs: The outputs it is judged by, where they are not all.
    """

    name: str
    file: str
    calib: str
    eval: str
    eval_samples: int
    cost_samples: int
    hessian_samples: int
    metric: str = "top1"
    ladders: tuple[str, ...] = ("int8", "fp8", "16/8/4")
    made: Callable[[], object] | None = None
    batch: int = 32
    outputs: tuple[str, ...] = ()

    def make(self) -> None:
        """Make the file where it is one that has to be made."""
        if self.made is not None:
            self.made()

    @property
    def path(self) -> Path:
        if not DATA.is_dir():
            sys.exit(f"real models and data are absent from {DATA}: set TRT_MPQ_DATA to their folder")
        return DATA / self.file


_MINILM = "minilm/minilm_l6_v2.onnx"
_MOBILENET = "imagenet/mobilenet_v1_075_224.onnx"

MODELS = {
    model.name: model
    for model in (
        RealModel("resnet20", "cifar10/resnet20.onnx", "cifar10-resnet:calib", "cifar10-resnet:test", 1000, 1000, 128),
        RealModel("resnet56", "cifar10/resnet56.onnx", "cifar10-resnet:calib", "cifar10-resnet:test", 500, 500, 64),
        RealModel("mobilenet", _MOBILENET, "imagenet-mobilenet:calib", "imagenet-mobilenet:test", 400, 100, 32),
        RealModel("minilm", _MINILM, "minilm-sts:calib", "minilm-sts:dev", 500, 500, 32, "spearman", ("int8", "fp8")),
    )
}
