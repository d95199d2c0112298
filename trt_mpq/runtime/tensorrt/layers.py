"""The layers of a network that was parsed from ONNX, and the nodes they come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt

_BEFORE, _AFTER = "[ONNX Layer: ", "]"


def layers_of(network: trt.INetworkDefinition) -> Iterator[trt.ILayer]:
    """Every layer, in the order of the network."""
    return (network.get_layer(index) for index in range(network.num_layers))


def metadata_of(node: str) -> str:
    """What the parser writes into the metadata of the layers of a node."""
    return f"{_BEFORE}{node}{_AFTER}"


def node_of(layer: trt.ILayer) -> str:
    """Name of the node that a layer was made for; for a layer that belongs to none, its own name.

    The parser names a node's first layer after it and adds numbers for the others; metadata, where it sets any, names
    the node for all of them.
    """
    said: str = layer.metadata
    return said.removeprefix(_BEFORE).removesuffix(_AFTER) if said.startswith(_BEFORE) else layer.name
