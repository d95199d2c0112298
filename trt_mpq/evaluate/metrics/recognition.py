"""Texts that a recogniser reads, in speech or images: 1 - word (or character) error rate, which is not below 0.

With connectionist temporal classification (Graves et al., 2006) a text is the best class of every step, repetitions
merged, blanks left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trt_mpq.errors import MetricError
from trt_mpq.evaluate.metrics.base import Scores, TaskMetric, single_output
from trt_mpq.evaluate.metrics.corpus import corpus_metric
from trt_mpq.evaluate.metrics.decoders import users_decoder
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.transcripts import edits, require_jiwer
from trt_mpq.types import TensorSpec

CTC = "ctc:"
"""How a vocabulary is named: ctc:vocab.json."""
_BLANKS = ("<pad>", "[PAD]", "<blank>", "[blank]", "<blk>")
_SPACES = {"|": " ", "<space>": " ", "▁": " "}
_NO_TEXT = ("<s>", "</s>", "<unk>", "[UNK]", "[CLS]", "[SEP]")
_Reader = Callable[[Arrays], list[str]]


def error_rate(name: str, outputs: tuple[TensorSpec, ...], decode: str | None) -> TaskMetric:
    """The metric `wer` or `cer`, of texts that are read as `decode` says: ctc:VOCABULARY or module:function.

    Raises:
        MetricError: There is no such reader.
        MissingDependencyError: jiwer is not installed.
    """
    require_jiwer()
    read = _reader(name, outputs, decode)

    def quantities(batch: Arrays, labels: Array | None, reference: Arrays | None) -> Scores:
        if labels is None or labels.dtype.kind != "U" or labels.ndim != 1:
            found = "none" if labels is None else f"{labels.dtype} of shape {list(labels.shape)}"
            raise MetricError(f"metric {name} needs one text per sample as label, np.array([...]), and found {found}")
        pairs = zip(labels.tolist(), read(batch), strict=True)
        return np.array([edits(truth, guess, words=name == "wer") for truth, guess in pairs], dtype=np.float64)

    def statistic(counts: Scores) -> float:
        wrong, length = counts.sum(axis=0)
        return max(0.0, 1.0 - float(wrong / length)) if length else 0.0

    def check(counts: Scores) -> None:
        if not counts[:, 1].any():
            raise MetricError(f"metric {name} has nothing to score: every label is an empty text")

    return corpus_metric(name, quantities, statistic, check)


def _reader(name: str, outputs: tuple[TensorSpec, ...], decode: str | None) -> _Reader:
    if decode is not None and decode.startswith(CTC):
        spec = single_output(name, outputs)
        vocabulary = Vocabulary.from_file(Path(decode.removeprefix(CTC)))
        return lambda batch: [vocabulary.text(steps) for steps in batch[spec.name]]
    if decode is None or ":" not in decode:
        found = "nothing was named" if decode is None else f"{decode!r} is none"
        raise MetricError(
            f"metric {name} needs to know how texts are read and {found}: pass --decode ctc:VOCABULARY (vocab.json, or "
            "a text file with a token a line), or your own module:function from outputs by name to a list of texts"
        )
    return users_decoder(decode, str, "{found} texts and was given {wanted} samples")


@dataclass(frozen=True)
class Vocabulary:
    """The token of every class, empty for what is no text; `blank` is the class between tokens."""

    tokens: tuple[str, ...]
    blank: int

    @classmethod
    def from_file(cls, path: Path) -> Vocabulary:
        """From JSON, token to class, or a token a line; without a blank among them it is class 0, before them.

        Raises:
            MetricError: The file cannot be read as either.
        """
        try:
            text = path.read_text(encoding="utf-8")
            listed = json.loads(text) if path.suffix == ".json" else text.splitlines()
            named = {int(number): str(token) for token, number in listed.items()} if isinstance(listed, dict) else None
        except (OSError, ValueError, TypeError) as error:
            raise MetricError(f"the vocabulary {path} cannot be read as JSON or lines of text ({error})") from error
        tokens = (
            [named.get(number, "") for number in range(max(named) + 1)] if named else [str(line) for line in listed]
        )
        blank = next((number for number, token in enumerate(tokens) if token in _BLANKS), None)
        if blank is None:
            tokens, blank = ["", *tokens], 0
        return cls(
            tuple("" if token in (*_BLANKS, *_NO_TEXT) else _SPACES.get(token, token) for token in tokens), blank
        )

    def text(self, steps: Array) -> str:
        """The text of class scores [steps, classes]; raises MetricError if there are not as many classes."""
        if steps.ndim != 2 or steps.shape[1] < len(self.tokens):
            raise MetricError(
                f"the vocabulary has {len(self.tokens)} classes, blank included, and a sample's scores are "
                f"{list(steps.shape)}, which should be [steps, classes]"
            )
        best = steps.argmax(axis=1)
        new = best[np.diff(best, prepend=-1) != 0]
        tokens = (self.tokens[number] for number in new if number != self.blank and number < len(self.tokens))
        return " ".join("".join(tokens).split())
