"""Engines of plans that are built to be asked something, and are gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trt_mpq.emit import Emitter
from trt_mpq.engine.build import build_engine
from trt_mpq.engine.timing import loaded_engine
from trt_mpq.errors import RuntimeFailure
from trt_mpq.model import save_graph
from trt_mpq.runtime.base import Session
from trt_mpq.runtime.tensorrt.api import capabilities, resolve_typing
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.engine import ShapeRange


@dataclass(frozen=True)
class PlanEngines:
    """Builds engines of one network on this machine.

    Attributes:
        options: How.
        shapes: Optimization profile of the dynamic inputs.
        timing_cache: Folder of timing caches.
    """

    options: EngineOptions
    shapes: Mapping[str, ShapeRange]
    timing_cache: Path

    @contextmanager
    def session(self, emitter: Emitter, plan: PrecisionPlan) -> Iterator[Session]:
        """The engine of `plan`, loaded while the block runs.

        Raises:
            MissingDependencyError: tensorrt or pycuda is not installed.
            RuntimeFailure: There is no GPU, or TensorRT refuses the plan.
            ModelError: This TensorRT cannot have the plan.
        """
        with tempfile.TemporaryDirectory(prefix="trt-mpq-") as folder:
            network = Path(folder) / "plan.onnx"
            typing = resolve_typing(self.options.typing, capabilities())
            save_graph(emitter.weak(plan) if typing == "weak" else emitter.strong(plan), network)
            layer_by_layer = self.options.through == "builder-api"
            constraints = {} if typing == "strong" else emitter.constraints(plan, eight_bit=layer_by_layer)
            request = BuildRequest(
                onnx=str(network), engine="plan.plan", typing=typing, constraints=constraints, shapes=self.shapes,
                options=self.options, timing_cache=str(self.timing_cache),
            )  # fmt: skip
            build = build_engine(request, network.parent)
            if build.engine is None:
                raise RuntimeFailure(build.reason)
            with loaded_engine(network.with_name(build.engine), self.options) as engine, engine.session() as session:
                yield session
