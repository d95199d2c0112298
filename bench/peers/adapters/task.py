"""What every adapter gets and gives: a model, data and a target in, a delivered ONNX file and what it cost out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feeds = dict[str, Array]


@dataclass(frozen=True)
class Labelled:
    """Data that can be scored: input name to rows, and labels [samples]."""

    name: str
    feeds: Feeds
    labels: Array

    @property
    def rows_per_sample(self) -> int:
        """Rows of the model's batch that make one sample."""
        return len(next(iter(self.feeds.values()))) // len(self.labels)


LABELS = "labels"
DELIVERED = "delivered.onnx"
OUTCOME = "outcome.json"


class Task:
    """One job of a peer, read from the JSON file named on the command line.

    `evaluate` is the validation function a user of the peer would write. It counts every sample it runs.

    Attributes:
        model: The FP32 ONNX file.
        target: Least share of the FP32 score to keep, or None for a peer that takes no target.
        precision: The 8-bit format, "int8" or "fp8".
        batch: Rows of the model's batch at a time.
        folder: Where the delivered file goes.
    """

    def __init__(self, path: Path) -> None:
        fields = json.loads(path.read_text(encoding="utf-8"))
        self.fields = fields
        self.model = Path(fields["model"])
        self.metric: str = fields["metric"]
        self.target: float | None = fields["target"]
        self.precision: str = fields["precision"]
        self.batch: int = fields["batch"]
        self.folder = Path(fields["folder"])
        self._scored = 0

    @classmethod
    def from_command_line(cls) -> Task:
        """The task of this process."""
        return cls(Path(sys.argv[1]))

    @cached_property
    def calibration(self) -> Feeds:
        """Input name to calibration rows [n, ...]."""
        return {name: array for name, array in self._calibration.items() if name != LABELS}

    @cached_property
    def labelled_calibration(self) -> Labelled | None:
        """The calibration data with its labels, if it has any."""
        labels = self._calibration.get(LABELS)
        return None if labels is None else Labelled("calibration", self.calibration, labels)

    @cached_property
    def labelled_evaluation(self) -> Labelled:
        """The evaluation data."""
        arrays = _arrays(Path(self.fields["evaluation"]))
        labels = arrays.pop(LABELS)
        return Labelled("evaluation", arrays, labels)

    @cached_property
    def _calibration(self) -> Feeds:
        return _arrays(Path(self.fields["calibration"]))

    @property
    def transformer(self) -> bool:
        """Whether the model reads tokens; some peers have to be told."""
        return any(np.issubdtype(array.dtype, np.integer) for array in self.calibration.values())

    def calibration_batches(self, size: int | None = None) -> Iterator[Feeds]:
        """The calibration rows, `size` at a time (default: the batch)."""
        return batches(self.calibration, size or self.batch)

    def evaluation_samples(self) -> Iterator[tuple[Feeds, Array]]:
        """Feeds [rows per sample, ...] and label of every evaluation sample."""
        data = self.labelled_evaluation
        return zip(batches(data.feeds, data.rows_per_sample), data.labels, strict=True)

    def evaluate(self, session: Any, data: Labelled | None = None) -> float:
        """The score of an ONNX Runtime session on the evaluation data, or on other `data`."""
        data = data or self.labelled_evaluation
        outputs = [run(session, feeds) for feeds in batches(data.feeds, self.batch)]
        return self.score(np.concatenate(outputs), data.labels)

    def score(self, outputs: Array, labels: Array) -> float:
        """The metric of outputs [n * rows per sample, ...] against labels [n]; counts n samples."""
        self._scored += len(labels)
        return {"top1": top1, "spearman": spearman}[self.metric](outputs, labels)

    def deliver(self, model: Any = None, *, notes: tuple[str, ...] = (), packages: tuple[str, ...] = ()) -> None:
        """Write what the peer made, and what it cost.

        Args:
            model: An ONNX model; None if the peer wrote the file `delivered` itself.
            notes: What a reader of the table should know.
            packages: Distributions whose versions decide the result.
        """
        if model is not None:
            import onnx

            onnx.save(model, self.delivered)
        self.write_outcome(
            self._scored / len(self.labelled_evaluation.labels), notes, {name: version(name) for name in packages}
        )

    def write_outcome(self, evaluations: float, notes: tuple[str, ...], versions: dict[str, str]) -> None:
        """Say what it cost, in passes over the evaluation set."""
        content = {"evaluations": evaluations, "notes": list(notes), "versions": versions}
        (self.folder / OUTCOME).write_text(json.dumps(content), encoding="utf-8")

    @property
    def delivered(self) -> Path:
        """Where the delivered file goes."""
        return self.folder / DELIVERED


def gathered(samples: Iterable[tuple[Feeds, Array]]) -> Labelled:
    """Samples as one set of data, for peers that choose some of them."""
    feeds, labels = zip(*samples, strict=True)
    return Labelled("chosen", {name: np.concatenate([f[name] for f in feeds]) for name in feeds[0]}, np.array(labels))


def session_of(model: Any) -> Any:
    """An ONNX Runtime session of a file or an ONNX model on the CPU, with the defaults a user of the peer gets."""
    import onnxruntime

    source = str(model) if isinstance(model, (str, Path)) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def run(session: Any, feeds: Feeds) -> Array:
    """The first output of a session."""
    output: Array = session.run(None, feeds)[0]
    return output


def top1(logits: Array, labels: Array) -> float:
    """Share of samples whose largest logit [n, classes] is the label [n]."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def spearman(embeddings: Array, labels: Array) -> float:
    """Rank correlation of labels [n] with the cosine of each pair of embeddings [2 n, width]."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = (unit[0::2].astype(np.float64) * unit[1::2]).sum(axis=1)
    return float(np.corrcoef(_ranks(cosines), _ranks(labels))[0, 1])


def _ranks(values: Array) -> NDArray[np.float64]:
    """Average ranks of values [n]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((2 * ends - counts + 1) / 2)[inverse]


def batches(arrays: Feeds, size: int) -> Iterator[Feeds]:
    """Rows, `size` at a time."""
    count = len(next(iter(arrays.values())))
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def _arrays(path: Path) -> Feeds:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


class RewindingReader:
    """A calibration data reader as ONNX Runtime's quantization tools and their relatives want it."""

    def __init__(self, feeds: Feeds, size: int) -> None:
        self._feeds, self._size = feeds, size
        self.rewind()

    def get_next(self) -> Feeds | None:
        """The next batch, None after the last."""
        return next(self._batches, None)

    def rewind(self) -> None:
        """Start over."""
        self._batches = batches(self._feeds, self._size)
