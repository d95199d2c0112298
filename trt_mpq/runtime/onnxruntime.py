"""The reference runtime: ONNX Runtime on the CPU, at the optimization level that keeps numerics.

From ``ORT_ENABLE_EXTENDED`` up, ONNX Runtime drops a Relu before an FP8 QuantizeLinear (measured on
1.32), so everything here runs at ``ORT_ENABLE_BASIC``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_mpq.errors import RuntimeFailure
from trt_mpq.runtime.base import Array, Arrays

if TYPE_CHECKING:
    import onnx_ir as ir

_PROTOBUF_LIMIT = 1 << 30
"""Graphs above this many bytes travel through a file with external data (protobuf ends at 2 GiB)."""


class OnnxRuntimeSession:
    """A graph loaded by ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = tuple(output.name for output in session.get_outputs())

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph outputs, in order."""
        return self._outputs

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """Compute every output for `feeds`."""
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:  # ONNX Runtime has no common base for its C++ errors
            raise RuntimeFailure(f"ONNX Runtime could not run the graph: {_first_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))


class OnnxRuntime:
    """ONNX Runtime's CPU provider.

    Args:
        threads: Threads inside one operator; 0 lets ONNX Runtime take every core.
    """

    def __init__(self, threads: int = 0) -> None:
        import onnxruntime

        self._ort = onnxruntime
        self._threads = threads

    @property
    def name(self) -> str:
        """Library name and version."""
        return f"onnxruntime {self._ort.__version__}"

    def load(self, graph: ir.Model | Path) -> OnnxRuntimeSession:
        """Load an in-memory graph or a file."""
        if isinstance(graph, Path):
            return self._session(str(graph))
        import onnx_ir as ir

        if sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value) < (
            _PROTOBUF_LIMIT
        ):
            return self._session(ir.to_proto(graph).SerializeToString())
        with tempfile.TemporaryDirectory(prefix="trt-mpq-") as folder:
            path = Path(folder) / "graph.onnx"
            ir.save(graph, path, external_data="graph.data")
            return self._session(str(path))

    def _session(self, source: str | bytes) -> OnnxRuntimeSession:
        options = self._ort.SessionOptions()
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 4
        try:
            session = self._ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common base for its C++ errors
            raise RuntimeFailure(f"ONNX Runtime could not load the graph: {_first_line(error)}") from error
        return OnnxRuntimeSession(session)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]
