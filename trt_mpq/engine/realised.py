"""Requested against realised precision: in which format each group's kernel really computes.

What a kernel multiplies is told by its name first, since a kernel may read and write other formats than it computes
in, and else by the tensors and weights it reads. Where TensorRT tells neither, the answer is unknown, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from trt_mpq.engine.datatypes import UNKNOWN, kernel_datatype
from trt_mpq.engine.inspector import CONSTANT, is_opaque, is_quantizer
from trt_mpq.types import Grouping, Precision, PrecisionPlan
from trt_mpq.types.engine import EngineLayer, EngineTensor, Realised, RealisedGroup

_COMPUTED_IN = {
    "fp32": Precision.FP32,
    "tf32": Precision.FP32,
    "fp16": Precision.FP16,
    "bf16": Precision.BF16,
    "fp8": Precision.FP8,
    "int8": Precision.INT8,
    "int4": Precision.INT4,
    "fp4": Precision.NVFP4,
}
_FLOATING = frozenset({"fp32", "fp16", "bf16"})
_MOVING_KINDS = frozenset({"Shuffle", "Slice", "Constant", "Identity", "Padding", "Gather"})
_NAME_LENGTH = 80


def realise(plan: PrecisionPlan, grouping: Grouping, layers: tuple[EngineLayer, ...]) -> Realised:
    """What became of `plan` in the engine made of `layers`, which `engine_layers` found for the same `grouping`.

    Raises:
        KeyError: The plan lacks a group.
    """
    requested = plan.as_dict()
    return Realised(
        groups=tuple(_group(group.id, requested[group.id], layers) for group in grouping.groups),
        unfused=tuple(layer.name for layer in layers if layer.role == "quantize"),
        reformats=tuple(layer.name for layer in layers if layer.role == "reformat"),
        layers=len(layers),
    )


def disagreements(realised: Realised) -> tuple[str, ...]:
    """One sentence per group that does not run, or is not known to run, in what it was asked for."""
    return tuple(_sentence(group) for group in realised.groups if group.realised is not group.requested)


def _sentence(group: RealisedGroup) -> str:
    asked = f"{group.group} was asked for {group.requested}"
    if group.realised is None:
        return f"{asked} and what it runs in is unknown: {group.note}"
    return f"{asked} and runs in {group.realised}: {group.note}"


@dataclass(frozen=True)
class _Evidence:
    """The format one layer computes in, "unknown" if TensorRT does not tell, and then why.

    TensorRT repeats a node's name on layers that prepare data for the kernel, so only those of the lowest `rank` count:
    0 a kernel named after its operands, 1 a layer with weights, 2 any other, 3 a layer that hides what it does,
    4 one that does no arithmetic.
    """

    layer: EngineLayer
    rank: int
    datatype: str
    reason: str = ""


def _group(group: str, requested: Precision, layers: tuple[EngineLayer, ...]) -> RealisedGroup:
    evidence = tuple(_evidence(layer) for layer in layers if group in layer.groups)
    names = tuple(one.layer.name for one in evidence)

    def unknown(note: str) -> RealisedGroup:
        return RealisedGroup(group, requested, None, names, note)

    if not evidence:
        return unknown("no layer of the engine names it")
    surest = min(one.rank for one in evidence)
    best = tuple(one for one in evidence if one.rank == surest)
    silent = next((one for one in best if one.datatype == UNKNOWN), None)
    if silent is not None:
        return unknown(silent.reason)
    if len({one.datatype for one in best}) > 1:
        parts = ", ".join(f"{_short(one.layer)} in {one.datatype}" for one in best)
        return unknown(f"its layers run in different precisions: {parts}")
    found = best[0]
    if found.datatype not in _COMPUTED_IN:
        return unknown(f"it runs in {found.datatype}, which no plan asks for")
    precision = _COMPUTED_IN[found.datatype]
    if requested.spec.weight_only and found.datatype in _FLOATING:
        weights = _weights(found.layer)
        if weights == UNKNOWN:
            return unknown(f"it multiplies in {precision}, and the engine does not say what its weights are stored as")
        precision = requested if weights == requested.codes.dtype else precision
    return RealisedGroup(group, requested, precision, names, _note(requested, precision, found))


def _evidence(layer: EngineLayer) -> _Evidence:
    told = kernel_datatype(layer.tactic)
    if told != UNKNOWN:
        return _Evidence(layer, 0, told)
    if not layer.kind:
        return _Evidence(layer, 3, UNKNOWN, "the engine was built without detailed profiling verbosity")
    if is_opaque(layer):
        return _inside(layer)
    if layer.kind in _MOVING_KINDS:
        return _Evidence(layer, 4, UNKNOWN, f"of its layers only {_short(layer)} is known, which moves data")
    data, weights = _data_input(layer), _weights(layer)
    read = UNKNOWN if data is None else data.datatype
    rank = 2 if weights == UNKNOWN else 1
    # Narrow weights beside wide data are widened before they are multiplied.
    if read != UNKNOWN and (weights in (UNKNOWN, read) or (read in _FLOATING and weights not in _FLOATING)):
        return _Evidence(layer, rank, read)
    if read == UNKNOWN and weights in _FLOATING:
        return _Evidence(layer, rank, weights)
    return _Evidence(layer, rank, UNKNOWN, f"neither the kernel of {_short(layer)} nor what it reads tells")


def _inside(layer: EngineLayer) -> _Evidence:
    """What a layer computes in of which only the borders show.

    Certain is a half type alone: nothing but FP16, or nothing but BF16, crosses the borders and no node inside changes
    the format. With FP32 borders a weakly typed engine may still compute in FP16 inside.
    """
    tensors = [tensor for tensor in (*layer.inputs, *layer.outputs) if tensor.datatype != "bool"]
    listed = "{ForeignNode[" not in layer.name and set(layer.groups) <= set(layer.nodes)
    crossing = {tensor.datatype for tensor in tensors}
    if listed and crossing in ({"fp16"}, {"bf16"}) and not any(map(is_quantizer, layer.nodes)):
        return _Evidence(layer, 3, crossing.pop())
    reads, writes = (", ".join(sorted({tensor.datatype for tensor in side})) for side in (layer.inputs, layer.outputs))
    borders = f"it reads {reads or 'nothing'} and writes {writes or 'nothing'}"
    reason = f"TensorRT hides what runs inside {_short(layer)}, of which is known that {borders}"
    return _Evidence(layer, 3, UNKNOWN, reason)


def _note(requested: Precision, realised: Precision, found: _Evidence) -> str:
    if requested is realised:
        return "its kernel rounds operands to tf32" if found.datatype == "tf32" else ""
    if requested.spec.weight_only and realised is not requested:
        return f"its weights are stored as {_weights(found.layer)}"
    data = _data_input(found.layer)
    reads = UNKNOWN if data is None else data.datatype
    if reads not in (UNKNOWN, requested.value):
        if requested.quantized and reads in _FLOATING:
            return "its input reaches it unquantized"
        return f"its input reaches it in {reads}"
    if found.layer.tactic:
        return f"TensorRT chose the kernel {found.layer.tactic[:_NAME_LENGTH]}"
    return "TensorRT decided so, and the engine does not say why"


def _data_input(layer: EngineLayer) -> EngineTensor | None:
    """The tensor that is multiplied by the weights; a fused skip connection comes after it."""
    return next((tensor for tensor in layer.inputs if tensor.layout != CONSTANT), None)


def _weights(layer: EngineLayer) -> str:
    return next((tensor.datatype for tensor in layer.inputs if tensor.layout == CONSTANT), UNKNOWN)


def _short(layer: EngineLayer) -> str:
    """A layer's name, cut where TensorRT joined so many that it fills a page."""
    return layer.name if len(layer.name) <= _NAME_LENGTH else layer.name[: _NAME_LENGTH - 1] + "…"
