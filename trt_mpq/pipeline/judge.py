"""What scores engines in the device half of a run, where the evaluation data may or may not be at hand."""

from __future__ import annotations

from trt_mpq.artifacts.store import Store
from trt_mpq.dataset import open_samples
from trt_mpq.engine.deploy import Judge
from trt_mpq.engine.handover import DESCRIBED, SEARCHED
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.model import load_graph
from trt_mpq.pipeline.sources import RUNTIME


def judge_on_data(store: Store) -> Judge | None:
    """Gives the task score of an engine on the evaluation data of the settings; None if they name none.

    Raises:
        RunFolderError: The folder holds no searched run.
        DataError: The data cannot be read, or does not fit the model.
        MetricError: The metric of the search cannot be used.
    """
    settings, described, searched = store.settings, store[DESCRIBED], store[SEARCHED]
    if settings.eval is None:
        return None
    samples = open_samples(settings.eval, described.original.inputs)
    if settings.eval_samples is not None:
        samples = samples.take(settings.eval_samples)
    metric = metric_from_name(
        searched.metric,
        has_labels=samples.has_labels,
        outputs=described.original.outputs,
        rows_per_sample=samples.rows,
    )
    fp32 = load_graph(store.folder / described.original.path)
    return Scorer(fp32, store[RUNTIME], samples, metric, described.batch).score_session
