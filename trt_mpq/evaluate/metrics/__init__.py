"""Task metrics: how good a model's outputs are, where higher is better.

With labels a metric says how right the outputs are (`top1`, `spearman`, `f1`, ...). Without, it measures fidelity to
the FP32 model (`agreement`, `cosine`, `kl`, `sqnr`), scaled so that identical outputs score exactly 1.0 and a target
such as 0.99 of the FP32 score keeps its meaning. Outputs with NaN count as wrong, or score 0.

Most metrics are means over samples. A correlation, a share of all tokens or a perplexity is not: `corpus.py` keeps a
few numbers per sample for these, from which the score and, by bootstrap, its standard error follow.
"""

from trt_mpq.evaluate.metrics.base import Scores, TaskMetric
from trt_mpq.evaluate.metrics.choice import METRIC_NAMES, metric_from_name
from trt_mpq.evaluate.metrics.classes import correct_in_top_k, is_classifier

__all__ = [
    "METRIC_NAMES",
    "Scores",
    "TaskMetric",
    "correct_in_top_k",
    "is_classifier",
    "metric_from_name",
]
