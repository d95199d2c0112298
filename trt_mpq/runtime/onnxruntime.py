"""The reference runtime: ONNX Runtime on the CPU, with the optimizations that keep numerics.

Its Q/DQ passes do not (measured on 1.32). At ``ORT_ENABLE_BASIC`` they round the bias of a Conv or Gemm that
stands between Q/DQ to INT32 multiples of the product of its scales, computed in the type of the bias: in FP16
that overflows, and a typed INT8 MobileNet gives noise. From ``ORT_ENABLE_EXTENDED`` up they also drop a Relu
before an FP8 QuantizeLinear, and quantize the other operand of a MatMul with a dequantized weight. So they are
off here (``session.disable_quant_qdq``), and the level is BASIC, because the default one sums convolutions in
another order. Results are then those of ``ORT_DISABLE_ALL``, bit for bit.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_mpq.errors import RuntimeFailure
from trt_mpq.graph.onnx_api import first_line
from trt_mpq.runtime.base import Array, Arrays, with_outputs

if TYPE_CHECKING:
    import onnx_ir as ir

_FAILED_NODE = re.compile(
    r"running (?P<operator>\w+) node\. Name:'(?P<name>[^']*)' Status Message: (?:/\S+:\d+ .*?\) )?(?P<reason>.+)"
)
_MOST_WAYS = 2
_PROTOBUF_LIMIT = 1 << 30
"""Graphs above this many bytes, and parts of them, travel through a file with external data: protobuf ends at 2 GiB."""


class OnnxRuntimeSession:
    """A graph loaded by ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self.native = session
        """The `onnxruntime.InferenceSession`."""
        self._outputs = tuple(output.name for output in session.get_outputs())

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph outputs, in order."""
        return self._outputs

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """Compute every output for `feeds`."""
        try:
            values = self.native.run(None, dict(feeds))
        except Exception as error:  # ONNX Runtime has no common base for its C++ errors
            raise RuntimeFailure(f"ONNX Runtime could not run the graph: {_why(error)}{_hint(feeds)}") from error
        return dict(zip(self._outputs, values, strict=True))


class OnnxRuntime:
    """ONNX Runtime's CPU provider.

    Args:
        threads: How many compute; 0 stands for every core.
    """

    def __init__(self, threads: int = 0) -> None:
        import onnxruntime

        self._version = str(onnxruntime.__version__)
        self._threads = threads

    @property
    def name(self) -> str:
        """Library name and version."""
        return f"onnxruntime {self._version}"

    @property
    def ways(self) -> int:
        """One for each thread, two at most: each takes the memory of its activations.

        Threads inside of an operator wait for each other, at every operator: two of them take 1.9 times the CPU time
        of one for a ResNet-56 and 32 images, and 1.5 times for a MobileNet.
        """
        return min(self._cores, _MOST_WAYS)

    @property
    def _cores(self) -> int:
        return self._threads or os.cpu_count() or 1

    def load(self, graph: ir.Model | Path, outputs: Sequence[str] = (), ways: int = 1) -> OnnxRuntimeSession:
        """Load an in-memory graph or a file, see `runtime.base.Runtime`."""
        import onnx_ir as ir

        from trt_mpq.runtime.quantizers import vectorized
        from trt_mpq.runtime.widening import widened

        if isinstance(graph, Path):
            try:
                stored = ir.load(graph)
            except Exception as error:  # protobuf and the file system have no common base
                raise _not_loadable(error) from error
            runnable = _computing(vectorized(widened(stored)), outputs)
            if runnable is stored:
                return self._session(str(graph), ways)
        else:
            runnable = _computing(vectorized(widened(graph)), outputs)
        weights = [value.const_value for value in runnable.graph.initializers.values() if value.const_value]
        in_memory = not any(isinstance(tensor, ir.ExternalTensor) for tensor in weights)
        if in_memory and sum(tensor.nbytes for tensor in weights) < _PROTOBUF_LIMIT:
            return self._session(ir.to_proto(runnable).SerializeToString(), ways)
        with tempfile.TemporaryDirectory(prefix="trt-mpq-") as folder:
            path = Path(folder) / "graph.onnx"
            ir.save(runnable, path, external_data="graph.data")
            return self._session(str(path), ways)

    def _session(self, source: str | bytes, ways: int) -> OnnxRuntimeSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.intra_op_num_threads = self._threads if ways == 1 else -(-self._cores // ways)
        options.log_severity_level = 4
        try:
            return OnnxRuntimeSession(onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # ONNX Runtime has no common base for its C++ errors
            raise _not_loadable(error) from error


def _why(error: Exception) -> str:
    """Which node ONNX Runtime says failed and why, without where in its own code."""
    said = first_line(error)
    if found := _FAILED_NODE.search(said):
        said = f"{found['operator']} {found['name']}: {found['reason']}"
    return said[:300].rstrip(". ")


def _hint(feeds: Mapping[str, Array]) -> str:
    rows = max((len(value) for value in feeds.values() if value.ndim), default=1)
    return f"; it was given {rows} rows at once: if it takes one sample at a time, use --batch 1" if rows > 1 else ""


def _computing(graph: ir.Model, outputs: Sequence[str]) -> ir.Model:
    """`graph` itself where it gives `outputs` and nothing else, or is not asked for any."""
    own = tuple(value.name for value in graph.graph.outputs)
    return graph if tuple(outputs) in ((), own) else with_outputs(graph, outputs)


def _not_loadable(error: Exception) -> RuntimeFailure:
    return RuntimeFailure(f"ONNX Runtime could not load the graph: {first_line(error)[:300]}")
