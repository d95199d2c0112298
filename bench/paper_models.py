"""The models of the paper's table: the real ones, and trained weights of its size that packages ship."""

from functools import partial

from bench import weights
from bench.real import DATA, MODELS, RealModel

_IMAGES, _SENTENCES = weights.EFFICIENTNET / "data.toml", weights.MPNET / "data.toml"

PAPER_MODELS = {
    **MODELS,
    "efficientnet": RealModel(
        "efficientnet", str(weights.EFFICIENTNET / "model.onnx"), f"{_IMAGES}:calib", f"{_IMAGES}:test", 400, 100, 8,
        ladders=("int8", "fp8"), made=weights.efficientnet_lite0,
    ),
    "mpnet": RealModel(
        "mpnet", str(weights.MPNET / "model.onnx"), f"{_SENTENCES}:calib", f"{_SENTENCES}:dev", 200, 100, 16,
        "spearman", ("int8", "fp8"), made=partial(weights.all_mpnet_base_v2, DATA),
    ),
}  # fmt: skip
"""With them the paper's two halves on trained weights of its size, which packages ship (`bench.weights`)."""
