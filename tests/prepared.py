"""Prepared small networks with their groups and samples, as every stage after preparation gets them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from trt_mpq.calibrate.ranges import calibrate, share_scales
from trt_mpq.calibrate.shapes import observed_shapes
from trt_mpq.dataset import Samples, samples_from_arrays
from trt_mpq.emit.network import Network
from trt_mpq.graph.interface import Interface
from trt_mpq.groups import groups_from_model
from trt_mpq.groups.shapes import bind_shapes, unknown_shapes
from trt_mpq.model import prepare_model
from trt_mpq.runtime.base import Array, with_outputs
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.types import Grouping, Model, Precision, Ranges

RUNTIME = OnnxRuntime(1)
QUANTIZED = (Precision.INT8, Precision.FP8, Precision.INT4)


@dataclass(frozen=True)
class Prepared:
    """A network as the pipeline sees it after its first two stages, without Model Optimizer's exclusions."""

    model: Model
    graph: ir.Model
    grouping: Grouping

    def samples(self, values: Array, labels: Array | None = None) -> Samples:
        """`values` [n, ...] for the one input."""
        return samples_from_arrays({self.model.inputs[0].name: values}, self.model.inputs, labels)

    def calibrated(self, samples: Samples, method: str = "minmax", batch: int = 8) -> Ranges:
        """Ranges for every quantized precision."""
        (ranges,) = calibrate(
            self.graph, self.grouping, samples, RUNTIME, methods=(method,), formats=QUANTIZED, batch=batch
        )
        return share_scales(ranges, self.grouping)

    def network(self, samples: Samples) -> Network:
        """The network calibrated on `samples`."""
        return Network(self.model, self.graph, self.grouping, self.calibrated(samples))

    def tensors(self, values: Array, *names: str) -> dict[str, Array]:
        """The named tensors for `values`, straight from ONNX Runtime."""
        own = self.model.inputs[0].name
        computed = [name for name in names if name != own]
        found = RUNTIME.load(with_outputs(self.graph, computed)).run({own: values})
        return {name: values if name == own else found[name] for name in names}


def prepare(proto: onnx.ModelProto, exclusions: str = "none") -> Prepared:
    """Prepare and group a network."""
    with tempfile.TemporaryDirectory() as folder:
        source, prepared = Path(folder) / "source.onnx", Path(folder) / "prepared.onnx"
        onnx.save(proto, source)
        model = prepare_model(source, prepared)
        graph = ir.from_proto(onnx.load(prepared))
    return Prepared(model, graph, groups_from_model(graph, with_observed(graph, sample_shapes(model)), exclusions))


def sample_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """One sample per input, or the batch the model fixes."""
    return {spec.name: tuple(n if isinstance(n, int) else 1 for n in spec.shape) for spec in model.inputs}


def with_observed(graph: ir.Model, fed: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes `fed`, and those of tensors that only a run can tell, observed on zeros."""
    unknown, inputs = unknown_shapes(bind_shapes(graph, fed)), Interface.of(graph).inputs
    zeros = {spec.name: np.zeros(fed[spec.name], spec.dtype) for spec in inputs}
    return {**fed, **(observed_shapes(graph, unknown, samples_from_arrays(zeros, inputs), RUNTIME) if unknown else {})}


def normal(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32 values [count, ...]."""
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)
