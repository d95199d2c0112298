"""Correlation of what a model says with a gold number per sample: a regression, or the similarity of a pair.

The model's prediction is its output [N] or [N, 1], or the cosine of the embeddings [N, D] of a sample's two rows.
"""

from __future__ import annotations

import numpy as np

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics.base import Scores, TaskMetric, single_output
from trt_mpq.evaluate.metrics.corpus import corpus_metric
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.types import TensorSpec


def correlation(name: str, outputs: tuple[TensorSpec, ...]) -> TaskMetric:
    """`pearson` or `spearman`; raises MetricError if the model has several outputs.

    A model whose predictions are all equal, or not all finite, scores 0: such a plan is bad, not an error.
    """
    spec = single_output(name, outputs)
    statistic = {"pearson": _pearson, "spearman": _spearman}[name]

    def quantities(batch: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        predicted = _predictions(name, spec.name, batch[spec.name])
        return np.stack([predicted, _gold(name, labels, len(predicted))], axis=1)

    def check(pairs: Scores) -> None:
        if np.all(pairs[:, 1] == pairs[0, 1]):
            raise MetricError(
                f"metric {name} is not defined where all {len(pairs)} labels are {pairs[0, 1]:g}: use more or other "
                "evaluation samples"
            )

    return corpus_metric(name, quantities, lambda pairs: statistic(pairs[:, 0], pairs[:, 1]), check)


def _pearson(a: Scores, b: Scores) -> float:
    """Pearson's correlation coefficient of [n] and [n]; 0 if one of them is constant or not all finite."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.all(a == a[0]) or np.all(b == b[0]):
        return 0.0
    centred = [_scaled(values - values.mean()) for values in (a, b)]
    return float(np.clip(centred[0] @ centred[1], -1.0, 1.0))


def _spearman(a: Scores, b: Scores) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, where equal values share the mean of their ranks."""
    from scipy.stats import rankdata

    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    return _pearson(rankdata(a), rankdata(b))


def _scaled(values: Scores) -> Scores:
    """`values` with norm 1; divided by the largest first, because squares overflow and underflow."""
    values = values / np.abs(values).max()
    return np.asarray(values / np.linalg.norm(values))


def _predictions(metric: str, name: str, output: Array) -> Scores:
    if output.ndim == 1 or output.shape[1:] == (1,):
        return output.reshape(len(output)).astype(np.float64)
    if output.ndim == 3 and output.shape[1] == 2 and output.shape[2] > 1:
        first, second = output.astype(np.float64).transpose(1, 0, 2)
        dots = np.sum(first * second, axis=1)
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(np.divide(dots, norms, out=np.where(np.isnan(norms), np.nan, 0.0), where=norms > 0))
    raise MetricError(
        f"metric {metric} needs one number per sample, or the embeddings of a pair (`rows_per_sample = 2` in a "
        f"recipe), and output {name!r} is {list(output.shape)} for {len(output)} samples: use module:function"
    )


def _gold(metric: str, labels: Array | None, samples: int) -> Scores:
    if labels is None or labels.dtype.kind not in "fiu" or labels.size != samples or len(labels) != samples:
        found = "none" if labels is None else f"{labels.dtype} of shape {labels.shape}"
        raise MetricError(f"metric {metric} needs one number per sample as label, found {found}: correct the labels")
    return labels.reshape(samples).astype(np.float64)
