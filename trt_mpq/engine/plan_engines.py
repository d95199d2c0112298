"""Engines of plans that are built to be asked something, and are gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trt_mpq.emit import Emitter
from trt_mpq.engine.build import build_engine
from trt_mpq.engine.for_machine import constraints_for, graph_for, request_on, typing_on
from trt_mpq.engine.timing import loaded_engine
from trt_mpq.errors import RuntimeFailure
from trt_mpq.model import save_graph
from trt_mpq.runtime.base import Session
from trt_mpq.settings import EngineOptions
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.engine import Platform, ShapeRange


@dataclass(frozen=True)
class PlanEngines:
    """Builds engines of one network on this machine.

    Attributes:
        platform: This machine.
        options: How.
        shapes: Optimization profile of the dynamic inputs.
        timing_cache: Folder of timing caches.
    """

    platform: Platform
    options: EngineOptions
    shapes: Mapping[str, ShapeRange]
    timing_cache: Path

    @contextmanager
    def session(self, emitter: Emitter, plan: PrecisionPlan) -> Iterator[Session]:
        """The engine of `plan`, loaded while the block runs.

        Raises:
            MissingDependencyError: TensorRT or pycuda is not installed any more.
            RuntimeFailure: TensorRT refuses the plan.
            ModelError: This TensorRT cannot have the plan.
        """
        with tempfile.TemporaryDirectory(prefix="trt-mpq-") as folder:
            network = Path(folder) / "plan.onnx"
            typing = typing_on(self.platform, self.options)
            save_graph(graph_for(typing, emitter, plan), network)
            constraints = constraints_for(typing, emitter, plan, self.options.through)
            request = request_on(
                self.platform, network, typing, constraints, self.shapes, self.options, self.timing_cache
            )
            build = build_engine(request, network.parent)
            if build.engine is None:
                raise RuntimeFailure(build.reason)
            engine = loaded_engine(network.with_name(build.engine), self.options, self.platform.flavour)
            with engine as loaded, loaded.session() as session:
                yield session
