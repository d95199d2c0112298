"""Model preparation: from whatever an exporter wrote to one FP32 graph that every later stage reads.

Models in half precision are widened, with a Cast at the border where the file declares half inputs and outputs.
The prepared graph has opset 13 or later, no functions, no Constant or Dropout nodes, Identity only where two names of
the interface are one tensor, no If that is decided beforehand, BatchNorm folded into the weights before it, products
and attention in the form of `groups.normal_form`, inferred shapes, and a unique name on every node. Names of inputs,
outputs, nodes and initializers that survive are kept; numerics change by rounding in folded weights only, and in rows
of attention that are masked altogether.
Nothing else is rewritten: onnxscript's full optimizer would also merge Clip with Relu, replace Flatten by
Reshape and share equal initializers, which later stages would have to undo.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from trt_mpq.artifacts.files import TEMPORARY
from trt_mpq.errors import ModelError, RunFolderError
from trt_mpq.graph import admission, onnx_api
from trt_mpq.graph.batch import batch_axes, with_states
from trt_mpq.graph.edit import eliminate_identities
from trt_mpq.graph.folding import fold, lift_constants
from trt_mpq.graph.given_scales import take_out_quantizers
from trt_mpq.graph.halves import widen
from trt_mpq.graph.interface import Interface, free_axes, require_signature, signature
from trt_mpq.graph.opset import WEAK_OPSET, convert_opset, drop_split_counts, opset_of
from trt_mpq.graph.other_formats import advice_for
from trt_mpq.graph.soundness import check_message
from trt_mpq.groups.normal_form import to_normal_form
from trt_mpq.types import Model

OLDEST_OPSET = 13
"""Per-channel QuantizeLinear starts here; older models are raised to the newest opset that every TensorRT reads."""

_INITIALIZERS_ARE_NO_INPUTS = 4
"""The IR version from which initializers need not be inputs too."""
_EXTERNAL_DATA_BYTES = 1_500_000_000
"""Graphs with more weights than this go to disk as a small file and a data file (protobuf ends at 2 GiB)."""


def prepare_model(
    source: Path,
    destination: Path,
    batch_axis: Mapping[str, int | None] | None = None,
    *,
    from_qdq: bool = False,
    states: Mapping[str, str] | None = None,
) -> Model:
    """Check, simplify and name the model at `source` and write it to `destination`, atomically.

    Above 1.5 GB of weights, a data file called `<destination>.data` is written beside it.

    Args:
        source: An ONNX model in FP32, FP16, BF16 or a mix of them; external data must lie in its folder.
        destination: Where the prepared model goes; its folder exists.
        batch_axis: Input or output to the axis that counts rows, where it cannot be told.
        from_qdq: Whether quantizers are taken out, and the magnitudes kept at which they clip, and scales of weights.
        states: Input to the output that it is at the next step.

    Returns:
        The prepared model; `path` is the name of the file in its folder.

    Raises:
        ModelError: The model cannot be read, is invalid or holds something unsupported.
        SettingsError: `batch_axis` names no input or output, or no axis, or `states` none that could be one.
        RunFolderError: `destination` cannot be written.
    """
    graph = load_graph(source)
    mended = [admission.sort_nodes(graph), drop_split_counts(graph), _raise_ir_version(graph)]
    admission.check_source(graph, source, changed=any(mended))
    with _quiet_libraries():
        _flatten(graph)
        free_axes(graph)
        wanted, declared = signature(graph), [value.shape for value in graph.graph.outputs]
        amax, given = take_out_quantizers(graph.graph) if from_qdq else ({}, {})
        widen(graph)
        admission.check_operators(graph)
        if opset_of(graph) < OLDEST_OPSET:
            onnx_api.infer_shapes(graph)  # the converter believes what the file says about outputs
            graph = convert_opset(graph, WEAK_OPSET)
        with _every_output_once(graph.graph):
            _simplify(graph)
    require_signature(graph, wanted)
    for value, shape in zip(graph.graph.outputs, declared, strict=True):
        value.shape = shape if value.producer() is not None else value.shape  # which folding replaces by numbers
    onnx_api.infer_shapes(graph)
    admission.check_prepared(graph)
    onnx_api.check(graph)
    save_graph(graph, destination)
    known = with_states(batch_axes(graph, batch_axis or {}), states or {}, graph)
    return replace(_describe(graph, source, destination, known), amax=amax, given=given, states=states or {})


def load_graph(path: Path) -> ir.Model:
    """Read an ONNX file; weights in external data stay on disk until they are used.

    Raises:
        ModelError: The file is missing, empty or no ONNX, or its external data is missing, truncated or
            outside the model's folder.
    """
    _check_file(path)
    try:
        with _quiet_libraries():
            message = onnx.load(path.resolve(), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf and onnx_ir have no common base for what they raise
        raise ModelError(
            f"{path} cannot be read as ONNX (truncated, damaged or another format): {onnx_api.first_line(error)}"
        ) from error
    try:
        check_message(message)
        with _quiet_libraries():
            graph = ir.from_proto(message)
    except (ModelError, ir.serde.SerdeError) as error:
        raise ModelError(f"{path} is not sound ONNX: {onnx_api.first_line(error)}") from error
    admission.check_external_data(graph, path.resolve().parent)
    return graph


def _check_file(path: Path) -> None:
    if advice := advice_for(str(path)):
        raise ModelError(f"{path} {advice}")
    if not path.exists():
        raise ModelError(f"there is no model file {path}")
    if not path.is_file():
        raise ModelError(f"{path} is not a file: pass the .onnx file itself")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty: export or copy the model again")


def model_digest(path: Path) -> str:
    """SHA-256 of an ONNX file followed by its external data files in the order of their names."""
    digest = hashlib.sha256()
    for file in (path, *sorted(_external_files(path))):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _external_files(path: Path) -> set[Path]:
    """The files that an ONNX file keeps weights in.

    One that has them names each `location`. Where that word is nowhere, the file, which may be large, is not parsed.
    """
    _check_file(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"location") < 0:
            return set()
    return {Path(tensor.path) for tensor in admission.external_tensors(load_graph(path))}


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence what onnx_ir and onnxscript log: what matters of it is raised as ModelError here."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _flatten(graph: ir.Model) -> None:
    """Inline functions and turn Constant nodes and default inputs into initializers, in place."""
    imports = graph.graph.opset_imports
    if "ai.onnx" in imports:  # the other spelling of the default domain
        imports[""] = imports.pop("ai.onnx")
    try:
        passes.InlinePass()(graph)
    except (ValueError, ir.passes.InvariantError) as error:
        raise ModelError(f"a function of the model cannot be inlined: {onnx_api.first_line(error)}") from error
    graph.functions.clear()
    passes.RemoveUnusedOpsetsPass()(graph)
    lift_constants(graph)
    passes.RemoveInitializersFromInputsPass()(graph)


def _raise_ir_version(graph: ir.Model) -> bool:
    """Let initializers be no inputs, in place; whether they were none already, which ONNX Runtime and TensorRT take."""
    old = graph.ir_version < _INITIALIZERS_ARE_NO_INPUTS
    graph.ir_version = max(graph.ir_version, _INITIALIZERS_ARE_NO_INPUTS)
    return old and not all(value.is_graph_input() for value in graph.graph.initializers.values())


@contextmanager
def _every_output_once(graph: ir.Graph) -> Iterator[None]:
    """List every output once, and as before at the end: of one that is listed twice folding would make a copy."""
    listed = [str(value.name) for value in graph.outputs]
    values = {str(value.name): value for value in graph.outputs}
    graph.outputs.clear()
    graph.outputs.extend(values.values())
    yield
    values = {str(value.name): value for value in graph.outputs}
    graph.outputs.clear()
    graph.outputs.extend(values[name] for name in listed)


def _simplify(graph: ir.Model) -> None:
    """Fold what is constant and name every node, in place."""
    eliminate_identities(graph.graph)
    fold(graph)
    eliminate_identities(graph.graph)
    to_normal_form(graph.graph)
    passes.RemoveUnusedNodesPass()(graph)
    _name_nodes(graph)
    _unshare_constants(graph.graph)
    _fold_batch_norm(graph)
    passes.RemoveUnusedNodesPass()(graph)
    passes.ClearMetadataAndDocStringPass()(graph)
    passes.NameFixPass()(graph)


def _name_nodes(graph: ir.Model) -> None:
    """Name nameless nodes after their output, which stays the same when nodes before them vanish."""
    for node in graph.graph.all_nodes():
        node.name = node.name or f"{node.op_type}.{node.outputs[0].name}"
    passes.NameFixPass()(graph)


def _unshare_constants(graph: ir.Graph) -> None:
    """Give every reader of a vector, or of a constant that is an output of the graph too, its own copy.

    Exporters store equal biases once; BatchNorm cannot be folded into a bias that others read too.
    """
    for value in list(graph.initializers.values()):
        if value.const_value is None or value.dtype is not ir.DataType.FLOAT:
            continue
        if len(value.const_value.shape) != 1 and not value.is_graph_output():
            continue
        others = list(value.uses())[not value.is_graph_output() :]
        for number, (node, index) in enumerate(others, start=1):
            name = f"{value.name}.{number}"
            copy = ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)
            graph.register_initializer(copy)
            node.replace_input_with(index, copy)


def _fold_batch_norm(graph: ir.Model) -> None:
    """Fold BatchNorm into Conv, ConvTranspose and Gemm, which keep their node names."""
    from onnxscript.rewriter import RewritePass
    from onnxscript.rewriter.rules import common as rules

    named = {node.inputs[1]: node.name for node in graph.graph if len(node.inputs) > 1}
    by_weight = {value.name: name for value, name in named.items() if value is not None}
    before = set(graph.graph)
    fold = (
        rules.fuse_batchnorm_into_conv_rule,
        rules.fuse_batchnorm_into_conv_transpose_rule,
        rules.fuse_batchnorm_into_gemm_rule,
    )
    RewritePass(fold)(graph)
    for node in set(graph.graph) - before:
        weight = node.inputs[1]
        assert weight is not None
        node.name = by_weight[weight.name]


def stored_bytes(network: Path) -> int:
    """Bytes of an ONNX file that was written here, with its external data if it has any."""
    data = external_data(network)
    return network.stat().st_size + (data.stat().st_size if data.exists() else 0)


def external_data(network: Path) -> Path:
    """Where the weights of a large network lie, beside the ONNX file that names them."""
    return network.with_name(f"{network.name}.data")


def save_graph(graph: ir.Model, destination: Path) -> None:
    """Write a complete file beside `destination`, then rename: a reader never sees half a model."""
    data = external_data(destination).name if _weight_bytes(graph) > _EXTERNAL_DATA_BYTES else None
    if data is None:
        for value in graph.graph.initializers.values():
            value.const_value = value.const_value and onnx_api.in_memory(value.const_value)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}{destination.name}.", dir=destination.parent) as folder:
            staged = Path(folder)
            ir.save(graph, staged / destination.name, format="protobuf", external_data=data)
            if data is not None:
                (staged / data).replace(destination.parent / data)
            (staged / destination.name).replace(destination)
    except OSError as error:
        raise RunFolderError(f"cannot write {destination}: {error.strerror or error}") from error


def _weight_bytes(graph: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value)


def _describe(graph: ir.Model, source: Path, destination: Path, axes: Mapping[str, int | None]) -> Model:
    data, interface = external_data(destination), Interface.of(graph)
    external = data.stat().st_size if _weight_bytes(graph) > _EXTERNAL_DATA_BYTES else 0
    return Model(
        path=destination.name,
        sha256=model_digest(destination),
        source_sha256=model_digest(source),
        inputs=tuple(replace(spec, batch_axis=axes[spec.name]) for spec in interface.inputs),
        outputs=tuple(replace(spec, batch_axis=axes[spec.name]) for spec in interface.outputs),
        opset=opset_of(graph),
        parameters=parameter_count(graph),
        size_bytes=destination.stat().st_size + external,
    )


def parameter_count(graph: ir.Model) -> int:
    """Number of floating-point constants, weights above all."""
    tensors = [value.const_value for value in graph.graph.initializers.values() if value.const_value is not None]
    return sum(tensor.size for tensor in tensors if tensor.dtype.is_floating_point())
