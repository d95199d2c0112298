"""The models every peer gets, and their data as plain arrays: preprocessed once, the same bytes for all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir

from bench.grouping import all_groups
from bench.paper_models import PAPER_MODELS
from trt_mpq.artifacts.files import write_arrays
from trt_mpq.dataset import Samples, open_samples
from trt_mpq.dataset.chunks import chunks
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.model import load_graph, prepare_model
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Grouping, Model, Score

CALIBRATION_SAMPLES = 256
BATCH = 32
"""Rows of the model's batch at a time, for evaluation and for the modelled latency."""


@dataclass(frozen=True)
class Arrays:
    """The files a peer reads.

    Attributes:
        calibration: `.npz` of input name to rows [n, ...].
        evaluation: `.npz` of input name to rows [samples * rows per sample, ...], and `labels` [samples].
    """

    calibration: Path
    evaluation: Path


class Subject:
    """A model of the table: prepared as ours is, with its data opened.

    Args:
        name: One of `PAPER_MODELS`.
        folder: Where the prepared model and the arrays are kept.
        calibration_samples: The first so many.
        evaluation_samples: The first so many; None is the model's own number.
    """

    def __init__(self, name: str, folder: Path, calibration_samples: int, evaluation_samples: int | None) -> None:
        self.name, self.real = name, PAPER_MODELS[name]
        self.real.make()
        self.metric = self.real.metric
        self.calibration_samples = calibration_samples
        self.evaluation_samples = evaluation_samples or self.real.eval_samples
        self._folder = folder / f"{name}-{self.calibration_samples}-{self.evaluation_samples}"
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def source(self) -> Path:
        """The model file, as it is given to every peer."""
        return self.real.path

    @cached_property
    def model(self) -> Model:
        """The model as ours prepares it."""
        return prepare_model(self.source, self._folder / "model.onnx")

    @cached_property
    def graph(self) -> ir.Model:
        """Its FP32 graph."""
        return load_graph(self._folder / self.model.path)

    @cached_property
    def calibration(self) -> Samples:
        """The calibration data, one row a sample."""
        return open_samples(self.real.calib, self.model.inputs).single_rows().take(self.calibration_samples)

    @cached_property
    def evaluation(self) -> Samples:
        """The evaluation data."""
        return open_samples(self.real.eval, self.model.inputs).take(self.evaluation_samples)

    @cached_property
    def arrays(self) -> Arrays:
        """The data, written to files unless they are there."""
        files = Arrays(self._folder / "calibration.npz", self._folder / "evaluation.npz")
        for samples, path in ((self.calibration, files.calibration), (self.evaluation, files.evaluation)):
            if not path.exists():
                _write(samples, path)
        return files

    @cached_property
    def sample_shapes(self) -> dict[str, tuple[int, ...]]:
        """Input name to the shape of one row, batch dimension 1."""
        return {name: array.shape for name, array in next(self.calibration.uncut().batches(1)).feeds.items()}

    @cached_property
    def grouping(self) -> Grouping:
        """Its groups; nothing is excluded, because peers do not know our exclusions."""
        return all_groups(self.graph, self.sample_shapes)

    def score(self, graph: ir.Model | Path) -> Score:
        """The task score of a graph on the evaluation data, in our reference runtime.

        Raises:
            RuntimeFailure: The graph does not run there.
        """
        return self._scorer.score(graph)

    @cached_property
    def fp32(self) -> Score:
        """The task score of the model itself."""
        return self.score(self.graph)

    @cached_property
    def _scorer(self) -> Scorer:
        metric = metric_from_name(
            self.metric, has_labels=True, outputs=self.model.outputs, rows_per_sample=self.evaluation.rows
        )
        return Scorer(self.graph, OnnxRuntime(), self.evaluation, metric, BATCH)


def _write(samples: Samples, path: Path) -> None:
    parts = list(chunks(samples, BATCH))
    arrays = {name: np.concatenate([part.batch.feeds[name] for part in parts]) for name in parts[0].batch.feeds}
    labels = [part.batch.labels for part in parts if part.batch.labels is not None]
    if labels:
        arrays["labels"] = np.concatenate(labels)
    write_arrays(arrays, path)
