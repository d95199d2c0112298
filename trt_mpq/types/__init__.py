"""The nouns of the product: frozen values that pass between stages, JSON in and out.

Nothing here computes numerics, reads files or imports a heavy library. Sizes are in bytes, times in
milliseconds, and per-sample counts (`flops`, element counts) hold for one sample of the batch.
"""

from trt_mpq.types.comparison import Comparison, OutputComparison
from trt_mpq.types.groups import Grouping, LayerGroup, LooseOp, QuantizedInput, Weight, WorkShare
from trt_mpq.types.model import GivenScales, Model, TensorSpec
from trt_mpq.types.observer import Observer, Progress, SilentObserver
from trt_mpq.types.plan import (
    DeliveredScores,
    Evaluation,
    Judgement,
    PrecisionPlan,
    Ranking,
    Score,
    SearchResult,
)
from trt_mpq.types.precision import Precision
from trt_mpq.types.ranges import PER_TENSOR, Ranges, TensorRange
from trt_mpq.types.refinement import RefinementRecord
from trt_mpq.types.target import LatencyError, Target
from trt_mpq.types.ties import Tie

__all__ = [
    "PER_TENSOR",
    "Comparison",
    "DeliveredScores",
    "Evaluation",
    "GivenScales",
    "Grouping",
    "Judgement",
    "LatencyError",
    "LayerGroup",
    "LooseOp",
    "Model",
    "Observer",
    "OutputComparison",
    "Precision",
    "PrecisionPlan",
    "Progress",
    "QuantizedInput",
    "Ranges",
    "Ranking",
    "RefinementRecord",
    "Score",
    "SearchResult",
    "SilentObserver",
    "Target",
    "TensorRange",
    "TensorSpec",
    "Tie",
    "Weight",
    "WorkShare",
]
