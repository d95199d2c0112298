"""Which ONNX nodes the name or the metadata of an engine layer speaks of.

TensorRT joins the names of what it fused in ways of its own: ``conv1.weight + q_1 + conv1 + relu1``,
``PWN(a, PWN(b))``, ``a || b``, ``{ForeignNode[first...last]}``, with suffixes for clones and for Myelin. One node's
name may be the beginning of another's and may itself hold dots or spaces, so names count only as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_METADATA = re.compile(r"\[ONNX Layer: (.*?)\](?=\s*(?:[\x1e\x1f\[]|$))", re.DOTALL)
_RANGE = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*)\]\}", re.DOTALL)
_START = r"(?:^|(?<= \+ )|(?<= \|\| )|(?<=, )|(?<=PWN\()|(?<=ForeignNode\[)|(?<=\.\.\.)|(?<=[\x1e\x1f]))"
_SUFFIX = r"(?:_clone_\d+|_myl\d+(?:_\d+)?|_(?:de)?quantize_scale_node)?"
_END = r"(?=$| \+ | \|\| |, |\)|\.\.\.|\]\}|[\x1e\x1f]| \[profile \d+\])"
_QUANTIZER = re.compile(
    r"QuantizeLinear|DequantizeLinear|quantize_scale_node|(?:^|[/_.])Cast(?:$|[/_.\d])"
    r"|_(?:int8|fp8|int4)_d?q$|_fp(?:16|32)$"
)


class NodeNames:
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


def in_metadata(metadata: str) -> tuple[str, ...]:
    """The ONNX nodes that a layer's metadata records, in its order, each once."""
    return tuple(dict.fromkeys(_METADATA.findall(metadata)))


def is_quantizer(node: str) -> bool:
    """Whether a node's name is that of a Q, DQ or Cast, ours or an exporter's."""
    return _QUANTIZER.search(node) is not None
