"""From an ONNX file to a TensorRT network.

Parsed without Polygraphy's loader, which binds the network to a logger of its own and drops the parser's errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from trt_mpq.errors import ModelError, SettingsError
from trt_mpq.graph.quantizers import HighPrecision, without_quantizers
from trt_mpq.runtime.tensorrt.api import bits
from trt_mpq.runtime.tensorrt.builder_api import add_quantizers
from trt_mpq.runtime.tensorrt.flavour import titled
from trt_mpq.runtime.tensorrt.refusal import BuildError
from trt_mpq.runtime.tensorrt.request import BuildRequest

if TYPE_CHECKING:
    import tensorrt as trt

_SHOWN = 3
"""Errors of the parser that are quoted; the log has all."""


def parse_network(
    request: BuildRequest, builder: trt.Builder, logger: trt.ILogger
) -> tuple[trt.INetworkDefinition, trt.OnnxParser, tuple[NDArray[Any], ...]]:
    """The network of `request`, its plugins loaded first, and the parser and the arrays that hold its weights.

    All of them and `builder` must live as long as the network.

    Raises:
        BuildError: TensorRT's parser refused the file; the message has all it said. Or the builder API cannot add what
            the file quantizes.
        SettingsError: A plugin library cannot be loaded.
    """
    from trt_mpq.runtime.tensorrt.flavour import trt

    _load_plugins(request.options.plugins)
    trt.init_libnvinfer_plugins(logger, "")
    flags = trt.NetworkDefinitionCreationFlag
    # 8.6 cannot parse ONNX without the first; later versions ignore it, and the newest ignore the second.
    names = ("EXPLICIT_BATCH", "STRONGLY_TYPED") if request.typing == "strong" else ("EXPLICIT_BATCH",)
    definition = builder.create_network(bits(flags, *names))
    parser = trt.OnnxParser(definition, logger)
    portable = request.options.version_compatible or request.options.hardware_compatible != "none"
    # The default since 10. Without it a normalization is a plugin, which ties an engine to its version and GPU; 8.6.0
    # has no such flag and refuses those engines itself.
    if portable and hasattr(trt, "OnnxParserFlag") and hasattr(parser, "set_flag"):
        parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    if request.options.through == "onnx":
        _parse(parser, request.onnx)
        return definition, parser, ()
    high = _in_high_precision(request.onnx)
    path = Path(request.engine).with_suffix(".high-precision.onnx")
    ir.save(high.graph, path, external_data=f"{path.name}.data")
    _parse(parser, str(path))
    return definition, parser, add_quantizers(definition, high)


def _in_high_precision(path: str) -> HighPrecision:
    try:
        return without_quantizers(ir.load(path))
    except ModelError as error:
        raise BuildError(f"the plan cannot go through the builder API: {error}: take --through onnx") from error


def _parse(parser: trt.OnnxParser, path: str) -> None:
    if not parser.parse_from_file(path):
        raise BuildError(_refusal(parser, path))


def _load_plugins(plugins: tuple[Path, ...]) -> None:
    from polygraphy.backend.trt import LoadPlugins

    for plugin in plugins:
        try:
            LoadPlugins([str(plugin.absolute())])()  # a bare name would not be sought in this folder
        except OSError as error:
            raise SettingsError(
                f"cannot load the plugin library {plugin} ({error}): check its path and what it needs with ldd"
            ) from error


def _refusal(parser: trt.OnnxParser, path: str) -> str:
    count = parser.num_errors
    said = [_error_text(parser.get_error(index), path) for index in range(min(count, _SHOWN))]
    if count > _SHOWN:
        said.append(f"and {count - _SHOWN} more")
    return f"{titled()} cannot parse {Path(path).name}: {'; '.join(said) or 'it gave no reason'}"


def _error_text(error: trt.ParserError, path: str) -> str:
    node = _node(error, path)
    said = " ".join(error.desc().split())
    return f"node {node}: {said}" if node else said


def _node(error: trt.ParserError, path: str) -> str:
    """Name and operator of the node an error is about, empty if it is about the whole file."""
    from trt_mpq.runtime.tensorrt.flavour import trt

    if hasattr(error, "node_name") and hasattr(error, "node_operator"):
        name, operator = error.node_name(), error.node_operator()
    elif error.code() == trt.ErrorCode.MODEL_DESERIALIZE_FAILED:
        return ""
    else:  # 8.6 gives the node's position only
        nodes = onnx.load(path, load_external_data=False).graph.node
        if not 0 <= error.node() < len(nodes):
            return ""
        name, operator = nodes[error.node()].name, nodes[error.node()].op_type
    return f"{name} ({operator})" if name else ""
