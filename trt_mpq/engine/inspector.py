"""The engine inspector's JSON as engine layers that know the groups they came from.

TensorRT 8.6 and 10 write `Bindings` and one `Format/Datatype` per tensor, TensorRT 11 writes `I/O Tensors` and keeps
`Format` and `Datatype` apart. Engines that were not built with detailed profiling verbosity list names only.

TensorRT joins the names of what it fused in ways of its own: ``conv1.weight + q_1 + conv1 + relu1``,
``PWN(a, PWN(b))``, ``a || b``, ``{ForeignNode[first...last]}``, with suffixes for clones and for Myelin. One node's
name may be the beginning of another's and may itself hold dots or spaces, so names count only as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from trt_mpq.engine.datatypes import UNKNOWN, datatype_of
from trt_mpq.errors import RuntimeFailure
from trt_mpq.types import Grouping, Precision
from trt_mpq.types.engine import EngineLayer, EngineTensor, LayerRole

CONSTANT = "constant"
"""Layout of the input that stands for a layer's own weights, which the inspector lists apart from its tensors."""

_OPAQUE_KINDS = frozenset({"myelin", "kgen", "fusion"})
_MOVE = re.compile(r"__myl_(?:Move)+_myl\d")
_QUANTIZER_ORIGINS = frozenset({"QDQ", "CAST"})
_QUANTIZER_KINDS = frozenset({"Quantize", "Dequantize", "DynamicQuantize", "Cast"})
_NARROW = frozenset({"int8", "fp8", "fp4"})

_METADATA = re.compile(r"\[ONNX Layer: (.*?)\](?=\s*(?:[\x1e\x1f\[]|$))", re.DOTALL)
_RANGE = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*)\]\}", re.DOTALL)
_START = r"(?:^|(?<= \+ )|(?<= \|\| )|(?<=, )|(?<=PWN\()|(?<=ForeignNode\[)|(?<=\.\.\.)|(?<=[\x1e\x1f]))"
_SUFFIX = r"(?:_clone_\d+|_myl\d+(?:_\d+)?|_(?:de)?quantize_scale_node)?"
_END = r"(?=$| \+ | \|\| |, |\)|\.\.\.|\]\}|[\x1e\x1f]| \[profile \d+\])"
_QUANTIZER = re.compile(
    r"QuantizeLinear|DequantizeLinear|quantize_scale_node|(?:^|[/_.])Cast(?:$|[/_.\d])"
    rf"|_(?:{'|'.join(p for p in Precision if p.quantized)})(?:_scale)?_d?q(?:_b?float16)?$|_fp(?:16|32)$"
)


def engine_layers(text: str, grouping: Grouping) -> tuple[EngineLayer, ...]:
    """Every layer of an engine, in its order.

    Args:
        text: What the inspector wrote, for the whole engine.
        grouping: Groups of the network the engine was built from; their order tells what lies inside a range such as
            ``{ForeignNode[a...b]}``.

    Raises:
        RuntimeFailure: It is no such text.
    """
    order = _Order.of(grouping)
    names = _NodeNames(order.names)
    anchors = {group.id for group in grouping.groups}
    found = [_Found.of(layer, names) for layer in _parsed(text)]
    named = {node for one in found if not one.copies for node in one.nodes} & anchors
    hidden = _hidden_groups(found, order, [group.id for group in grouping.groups if group.id not in named])
    return tuple(one.layer(anchors, hidden.get(index, ())) for index, one in enumerate(found))


def is_opaque(layer: EngineLayer) -> bool:
    """Whether TensorRT shows only the borders of what the layer computes."""
    return _opaque(layer.name, layer.kind)


def is_quantizer(node: str) -> bool:
    """Whether a node's name is that of a Q, DQ or Cast, ours or an exporter's."""
    return _QUANTIZER.search(node) is not None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Tensor(_Part):
    name: str = Field(alias="Name")
    dimensions: tuple[int, ...] = Field(default=(), alias="Dimensions")
    combined: str = Field(default="", alias="Format/Datatype")
    layout: str = Field(default="", alias="Format")
    datatype: str = Field(default="", validation_alias=AliasChoices("Datatype", "DataType"))

    def tensor(self) -> EngineTensor:
        layout = self.layout or self.combined
        return EngineTensor(self.name, datatype_of(self.datatype or layout), layout.rstrip(". "), self.dimensions)


class _Weights(_Part):
    kind: str = Field(alias="Type")
    count: int = Field(alias="Count")


class _Layer(_Part):
    name: str = Field(alias="Name")
    kind: str = Field(default="", alias="LayerType")
    inputs: tuple[_Tensor, ...] = Field(default=(), alias="Inputs")
    outputs: tuple[_Tensor, ...] = Field(default=(), alias="Outputs")
    weights: _Weights | object = Field(
        default=None, validation_alias=AliasChoices("Weights", "ConvWeights"), union_mode="left_to_right"
    )
    tactic: str = Field(default="", alias="TacticName")
    origin: str = Field(default="", alias="Origin")
    metadata: str = Field(default="", alias="Metadata")


class _Engine(_Part):
    layers: tuple[_Layer | str, ...] = Field(alias="Layers")


def _parsed(text: str) -> tuple[_Layer, ...]:
    try:
        # TensorRT separates the records of a layer's metadata with control characters, not always escaped.
        engine = _Engine.model_validate(json.loads(text, strict=False))
    except (ValueError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise RuntimeFailure(
            f"the engine inspector wrote no layer list that is known from TensorRT 8.6 to 11 ({reason}): "
            "report it with the TensorRT version and the file"
        ) from error
    return tuple(_Layer(Name=layer) if isinstance(layer, str) else layer for layer in engine.layers)


class _NodeNames:
    """Finds `names` in the text of engine layers."""

    def __init__(self, names: Iterable[str]) -> None:
        longest_first = sorted(set(names) - {""}, key=len, reverse=True)
        choices = "|".join(map(re.escape, longest_first)) or r"(?!)"
        self._pattern = re.compile(f"{_START}({choices}){_SUFFIX}{_END}")

    def within(self, name: str) -> tuple[str, ...]:
        """The names that a layer's name holds, in its order, each once."""
        return tuple(dict.fromkeys(self._pattern.findall(name)))

    def ends(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The names at both ends of a ``{ForeignNode[first...last]}``, either possibly empty; None for other layers."""
        found = _RANGE.search(name)
        return None if found is None else (self.within(found.group(1)), self.within(found.group(2)))


def _in_metadata(metadata: str) -> tuple[str, ...]:
    """The ONNX nodes that a layer's metadata records, in its order, each once."""
    return tuple(dict.fromkeys(_METADATA.findall(metadata)))


@dataclass(frozen=True)
class _Order:
    """Names that a layer may speak of, and where in the network those are whose place is known."""

    names: Collection[str]
    positions: Mapping[str, int]

    @classmethod
    def of(cls, grouping: Grouping) -> _Order:
        """Constants stand where their anchor stands: ranges often begin with a weight."""
        groups = grouping.groups
        positions = {node: index for index, group in enumerate(groups) for node in group.nodes}
        weights = [weight for group in groups for weight in group.weights]
        constants = [(name, weight.node) for weight in weights for name in (weight.name, weight.bias) if name]
        places = {name: positions[anchor] for name, anchor in constants if anchor in positions}
        return cls({*positions, *places, *(loose.node for loose in grouping.loose)}, {**places, **positions})

    def covers(self, ends: tuple[tuple[str, ...], tuple[str, ...]] | None, node: str) -> bool:
        """Whether `node` may lie between both ends; yes if an end or the node has no known place."""
        first, last = ([self.positions[name] for name in end if name in self.positions] for end in ends or ((), ()))
        here = self.positions.get(node)
        return here is None or ((not first or min(first) <= here) and (not last or here <= max(last)))


@dataclass(frozen=True)
class _Found:
    """A layer and the nodes it speaks of; `ends` are those that border a range whose content it does not tell."""

    raw: _Layer
    nodes: tuple[str, ...]
    ends: tuple[tuple[str, ...], tuple[str, ...]] | None
    hides: bool

    @classmethod
    def of(cls, raw: _Layer, names: _NodeNames) -> _Found:
        recorded = _in_metadata(raw.metadata)
        nodes = recorded or names.within(raw.name)
        ends = names.ends(raw.name)
        hides = not recorded and (ends is not None or (_opaque(raw.name, raw.kind) and not nodes))
        return cls(raw, nodes, ends, hides and not _copies(raw))

    @property
    def copies(self) -> bool:
        return _copies(self.raw)

    def layer(self, anchors: Collection[str], hidden: tuple[str, ...]) -> EngineLayer:
        """The layer, with the groups it names and those it can be shown to hide."""
        raw = self.raw
        nodes = () if self.copies else self.nodes
        groups = (*(node for node in nodes if node in anchors), *hidden)
        inputs = tuple(tensor.tensor() for tensor in raw.inputs)
        outputs = tuple(tensor.tensor() for tensor in raw.outputs)
        role = self._role(groups, inputs, outputs)
        if isinstance(raw.weights, _Weights):
            weights = EngineTensor("weights", datatype_of(raw.weights.kind), CONSTANT, (raw.weights.count,))
            inputs = (*inputs, weights)
        return EngineLayer(raw.name, raw.kind, role, groups, nodes, inputs, outputs, raw.tactic)

    def _role(
        self, groups: tuple[str, ...], inputs: tuple[EngineTensor, ...], outputs: tuple[EngineTensor, ...]
    ) -> LayerRole:
        raw = self.raw
        if self.copies:
            return "reformat"
        if raw.kind == "Reformat":
            return "quantize"
        if groups:
            return "group"
        alone = raw.kind in _QUANTIZER_KINDS or (raw.kind == "Scale" and _changes_width(inputs, outputs))
        named = self.nodes or ((raw.name,) if not raw.kind and " + " not in raw.name else ())
        return "quantize" if alone or (named and all(map(is_quantizer, named))) else "other"


def _hidden_groups(found: Iterable[_Found], order: _Order, unnamed: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """Layer index to the groups that no layer names and that can be inside this one only."""
    opaque = {index: one.ends for index, one in enumerate(found) if one.hides}
    inside: dict[int, tuple[str, ...]] = {}
    for group in unnamed:
        places = [index for index, ends in opaque.items() if order.covers(ends, group)]
        if len(places) == 1:
            inside[places[0]] = (*inside.get(places[0], ()), group)
    return inside


def _opaque(name: str, kind: str) -> bool:
    return kind.lower() in _OPAQUE_KINDS or name.startswith("__myl_") or "{ForeignNode[" in name


def _copies(raw: _Layer) -> bool:
    """Whether a layer only moves data; a Reformat that stems from Q, DQ or Cast does arithmetic."""
    if raw.kind == "NoOp" or raw.name.startswith("Reformatting CopyNode") or _MOVE.match(raw.name):
        return True
    if raw.kind != "Reformat" or raw.origin.upper() in _QUANTIZER_ORIGINS:
        return False
    sides = ([tensor.tensor() for tensor in tensors] for tensors in (raw.inputs, raw.outputs))
    return bool(raw.origin) or not (is_quantizer(raw.name) or _changes_width(*sides))


def _changes_width(inputs: Iterable[EngineTensor], outputs: Iterable[EngineTensor]) -> bool:
    """Whether one side is 8 bit wide and the other is not."""
    before, after = ({tensor.datatype for tensor in side} - {UNKNOWN} for side in (inputs, outputs))
    return bool(before and after) and bool(before & _NARROW) != bool(after & _NARROW)
