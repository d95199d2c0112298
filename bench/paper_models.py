"""The models of the tables: the real ones, and trained weights that packages ship."""

from functools import partial

from bench import weights
from bench.real import DATA, MODELS, RealModel

_IN_BERTS = weights.PARAPHRASE / "data.toml"
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
PARAPHRASE = RealModel(
    "paraphrase", str(weights.PARAPHRASE / "model.onnx"), f"{_IN_BERTS}:calib", f"{_IN_BERTS}:dev", 500, 500, 32,
    "spearman", ("int8", "fp8"), made=partial(weights.paraphrase_minilm, DATA), outputs=("461",),
)  # fmt: skip
"""A sentence transformer of three layers, in a file that others made: it gives token ids and their embeddings too."""
