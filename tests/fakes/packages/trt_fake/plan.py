"""The fake plan file: a magic, a JSON header and the ONNX model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from trt_fake.engine_layer import Border, Layer

_MAGIC = b"FAKEPLAN"


@dataclass(frozen=True)
class Plan:
    """Everything an engine is.

    `profiles` has one mapping of input name to (min, opt, max) per optimization profile.
    """

    version: str
    gpu: str
    sm: int
    name: str
    portable: str
    version_compatible: bool
    refittable: bool
    verbosity: str
    capability: str
    inputs: tuple[Border, ...]
    outputs: tuple[Border, ...]
    profiles: tuple[dict[str, list[list[int]]], ...]
    layers: tuple[Layer, ...]
    model: bytes

    def serialize(self) -> bytes:
        """The bytes of the plan file."""
        fields = {key: value for key, value in asdict(self).items() if key != "model"}
        header = json.dumps(fields).encode()
        return _MAGIC + len(header).to_bytes(8, "little") + header + self.model


def read(data: bytes) -> Plan:
    """The plan in `data`; ValueError if it is none."""
    if not data.startswith(_MAGIC) or len(data) < 16:
        raise ValueError("Magic tag does not match")
    length = int.from_bytes(data[8:16], "little")
    header = json.loads(data[16 : 16 + length])
    header["inputs"] = tuple(map(_border, header["inputs"]))
    header["outputs"] = tuple(map(_border, header["outputs"]))
    header["profiles"] = tuple(header["profiles"])
    header["layers"] = tuple(map(_layer, header["layers"]))
    return Plan(**header, model=data[16 + length :])


def _border(fields: dict[str, Any]) -> Border:
    return Border(fields["name"], fields["dtype"], tuple(fields["shape"]))


def _layer(fields: dict[str, Any]) -> Layer:
    borders = {side: tuple(map(_border, fields[side])) for side in ("inputs", "outputs")}
    return Layer(**{**fields, **borders, "nodes": tuple(fields["nodes"])})
