"""What a run is about: the model, made ready, and its data."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import onnx_ir as ir

from trt_mpq.groups import groups_from_model
from trt_mpq.inputs import Data
from trt_mpq.keys import equalization_key, preparation_key
from trt_mpq.model import load_graph, prepare_model, save_graph
from trt_mpq.observer import Progress
from trt_mpq.refine.equalize import Equalized, equalize
from trt_mpq.settings import Settings
from trt_mpq.stages import Stages
from trt_mpq.storage import sha256_of
from trt_mpq.types import Model


class Subject:
    """The model of a run in its two states, prepared and equalized, and the data opened for it.

    Args:
        settings: What the user asked for.
        source_sha256: Digest of the model file.
        stages: Keep what is computed here.
    """

    def __init__(self, settings: Settings, source_sha256: str, stages: Stages) -> None:
        self._settings, self._source, self._stages = settings, source_sha256, stages

    @cached_property
    def prepared(self) -> Model:
        """The model checked and folded."""
        return self._stages.value(
            "prepare", preparation_key(self._source), "model.json", Model,
            lambda _: prepare_model(self._settings.model, self._stages.path("model.onnx")),
            others=("model.onnx", "model.onnx.data"),
        )  # fmt: skip

    @cached_property
    def original(self) -> ir.Model:
        """Its graph, which every comparison is with."""
        return load_graph(self._stages.path(self.prepared.path))

    @cached_property
    def equalized(self) -> Equalized:
        """The prepared model with its weight ranges equalized."""

        def compute(_: Progress) -> Equalized:
            graph, pairs = equalize(self.original, groups_from_model(self.original, self.data.sample_shapes))
            path = self._stages.path("equalized.onnx")
            save_graph(graph, path)
            return Equalized(replace(self.prepared, path=path.name, sha256=sha256_of(path)), pairs)

        return self._stages.value(
            "equalize", equalization_key(self.prepared), "equalized.json", Equalized, compute,
            others=("equalized.onnx", "equalized.onnx.data"),
        )  # fmt: skip

    @property
    def model(self) -> Model:
        """The model that plans are made of: equalized if that was asked for."""
        return self.equalized.model if self._settings.equalize else self.prepared

    @cached_property
    def graph(self) -> ir.Model:
        """Its graph, in memory."""
        return load_graph(self._stages.path(self.model.path)) if self._settings.equalize else self.original

    @cached_property
    def data(self) -> Data:
        """The calibration and evaluation data."""
        return Data(self._settings, self.prepared)
