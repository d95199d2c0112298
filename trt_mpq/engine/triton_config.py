"""The config.pbtxt of an engine for Triton Inference Server.

Field names are those of Triton's model_config.proto. Triton forms batches itself, so a model whose every tensor has a
free batch dimension is described without it and with the largest batch of its profile; any other is described whole.

Messages are mappings here, repeated ones lists of mappings, in the order in which their fields are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trt_mpq.engine.manifest import BUILD_ANEW, EngineManifest
from trt_mpq.errors import ModelError, RunFolderError, SettingsError
from trt_mpq.types import TensorSpec
from trt_mpq.types.engine import Platform, ShapeRange

_DATA_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float32": "TYPE_FP32",
}
_ANY = -1
_QUOTED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

_Message = dict[str, Any]


class _Word(str):
    """The name of an enum member, which is written without quotes."""


@dataclass(frozen=True)
class Serving:
    """How Triton serves a model.

    Attributes:
        instances: Executions side by side on the GPU.
        batching: Whether Triton joins requests to batches, where the model allows it.
        preferred_batches: Batches to form if possible; empty for the one that the engine is best for.
        queue_delay_us: Microseconds that a request may wait for others.
        versions: Newest versions that are served; None for all.
    """

    instances: int = 1
    batching: bool = True
    preferred_batches: tuple[int, ...] = ()
    queue_delay_us: int = 0
    versions: int | None = 1


def model_config(
    manifest: EngineManifest,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    name: str,
    serving: Serving | None = None,
) -> str:
    """The text of config.pbtxt.

    Raises:
        RunFolderError: The manifest lacks the profile of a dynamic input.
        SettingsError: Batches are asked for that the engine or the model does not allow.
        ModelError: A tensor has a type that Triton does not know.
    """
    profile, serving = _Profile.of(manifest, inputs, outputs), serving or Serving()
    _require_batches(serving, profile)
    old_integers = manifest.platform.tensorrt.startswith("8.")
    message: _Message = {
        "name": name,
        "platform": "tensorrt_plan",
        "max_batch_size": profile.largest_batch,
        "input": [_tensor(spec, profile.input_dims(spec), old_integers) for spec in inputs],
        "output": [_tensor(spec, profile.output_dims(spec), old_integers) for spec in outputs],
        "instance_group": _instances(manifest, serving.instances),
    }
    if serving.versions != 1:  # which is Triton's own way
        latest = {"latest": {"num_versions": serving.versions}}
        message["version_policy"] = {"all": {}} if serving.versions is None else latest
    if profile.largest_batch > 1 and serving.batching:
        message["dynamic_batching"] = _batching(profile, serving)
    if manifest.options.get("cuda_graph") is True:
        message["optimization"] = {"cuda": {"graphs": True, "graph_spec": profile.graphs(inputs)}}
    return _header(manifest) + _text(message)


@dataclass(frozen=True)
class _Profile:
    """Shapes the engine takes, one range per input, and the largest batch Triton may form (0: none)."""

    ranges: Mapping[str, ShapeRange]
    largest_batch: int
    fixed: Mapping[str, int]
    """Symbolic dimensions to which the profile leaves one size."""

    @classmethod
    def of(cls, manifest: EngineManifest, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> _Profile:
        ranges = {spec.name: _range(manifest, spec) for spec in inputs}
        sizes = [
            (symbol, low, high)
            for spec in inputs
            for symbol, low, high in zip(spec.shape, ranges[spec.name].minimum, ranges[spec.name].maximum, strict=True)
            if isinstance(symbol, str)
        ]
        fixed = {symbol: low for symbol, low, high in sizes if low == high}
        batched = _has_batch_axis(inputs, outputs) and all(shapes.minimum[0] == 1 for shapes in ranges.values())
        largest = min((shapes.maximum[0] for shapes in ranges.values()), default=0) if batched else 0
        return cls(ranges, largest, fixed)

    @property
    def preferred_batch(self) -> int:
        """The batch that the engine was tuned for."""
        return min(shapes.optimum[0] for shapes in self.ranges.values())

    def input_dims(self, spec: TensorSpec) -> tuple[int, ...]:
        """Shape of an input as Triton states it."""
        shapes = self.ranges[spec.name]
        dims = tuple(low if low == high else _ANY for low, high in zip(shapes.minimum, shapes.maximum, strict=True))
        return self._of_request(dims)

    def output_dims(self, spec: TensorSpec) -> tuple[int, ...]:
        """Shape of an output as Triton states it."""
        dims = tuple(size if isinstance(size, int) else self.fixed.get(size, _ANY) for size in spec.shape)
        return self._of_request(dims)

    def graphs(self, inputs: tuple[TensorSpec, ...]) -> list[_Message]:
        """The CUDA graphs worth capturing: one request alone, the batch tuned for, and the largest."""
        batches = sorted({1, self.preferred_batch, self.largest_batch}) if self.largest_batch else [0]
        shapes = [
            {"key": spec.name, "value": {"dim": self._of_request(self.ranges[spec.name].optimum)}} for spec in inputs
        ]
        return [{"batch_size": batch, "input": shapes} for batch in batches]

    def _of_request(self, dims: tuple[int, ...]) -> tuple[int, ...]:
        return dims[1:] if self.largest_batch else dims


def _range(manifest: EngineManifest, spec: TensorSpec) -> ShapeRange:
    sizes = tuple(size for size in spec.shape if isinstance(size, int))
    if len(sizes) == len(spec.shape):
        return ShapeRange(sizes, sizes, sizes)
    if spec.name not in manifest.shapes:
        raise RunFolderError(f"the engine's manifest has no shapes of the dynamic input {spec.name}: {BUILD_ANEW}")
    return manifest.shapes[spec.name]


def _has_batch_axis(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> bool:
    """Whether axis 0 of every tensor counts requests.

    Exporters give an output's batch dimension a name of its own, so any name counts there; an expression such as
    "8*batch" does not.
    """
    symbols = {spec.shape[0] if spec.shape else None for spec in inputs}
    counted = [spec.shape[0] if spec.shape else None for spec in outputs]
    return (
        len(symbols) == 1
        and all(isinstance(symbol, str) for symbol in symbols)
        and all(isinstance(size, str) and not re.search(r"[*+/()]", size) for size in counted)
    )


def _tensor(spec: TensorSpec, dims: tuple[int, ...], old_integers: bool) -> _Message:
    """Description of an input or output; Triton has no shape without dimensions, only a reshape to one."""
    if spec.dtype not in _DATA_TYPES:
        raise ModelError(
            f"{spec.name} is {spec.dtype}, which Triton's TensorRT backend does not take: cast it in the model"
        )
    # TensorRT 8 imports 64-bit integers as 32-bit ones.
    dtype = "int32" if old_integers and spec.dtype == "int64" else spec.dtype
    message = {"name": spec.name, "data_type": _Word(_DATA_TYPES[dtype]), "dims": dims or (1,)}
    return message if dims else {**message, "reshape": {"shape": ()}}


def _require_batches(serving: Serving, profile: _Profile) -> None:
    asked = [f"--preferred-batch {size}" for size in serving.preferred_batches]
    asked += [f"--max-queue-delay-us {serving.queue_delay_us}"] if serving.queue_delay_us else []
    if asked and (profile.largest_batch < 2 or not serving.batching):
        why = "the engine takes no batches that Triton could form" if serving.batching else "batching is turned off"
        raise SettingsError(f"{asked[0]} has no effect: {why}")
    if large := [size for size in serving.preferred_batches if size > profile.largest_batch]:
        raise SettingsError(
            f"--preferred-batch {large[0]} is larger than the engine's largest batch, {profile.largest_batch}: build "
            "with --shapes up to it, or prefer less"
        )


def _instances(manifest: EngineManifest, count: int) -> _Message:
    message = {"count": count, "kind": _Word("KIND_GPU")}
    core = manifest.options.get("dla_core")
    if not isinstance(core, int):
        return message
    return {**message, "secondary_devices": {"kind": _Word("KIND_NVDLA"), "device_id": core}}


def _batching(profile: _Profile, serving: Serving) -> _Message:
    message: _Message = {"max_queue_delay_microseconds": serving.queue_delay_us}
    if serving.preferred_batches:
        return {"preferred_batch_size": tuple(sorted(serving.preferred_batches)), **message}
    # To prefer a batch of one would be to send every request alone.
    return {"preferred_batch_size": (profile.preferred_batch,), **message} if profile.preferred_batch > 1 else message


def _header(manifest: EngineManifest) -> str:
    """What the server needs that its configuration cannot say, as comments."""
    platform = manifest.platform
    assert isinstance(platform, Platform)  # Triton runs no others
    backend = [f'plugins="{";".join(manifest.options["plugins"])}"'] if manifest.options.get("plugins") else []
    backend += ["version-compatible=true"] if manifest.options.get("version_compatible") is True else []
    lines = [
        f"Engine for {platform.gpu}, TensorRT {platform.tensorrt}, by trt-mpq {manifest.version}, "
        f"plan {manifest.plan_digest}.",
        *(f"Start the server with --backend-config=tensorrt,{option}" for option in backend),
    ]
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)


def _text(message: _Message) -> str:
    """`message` as protocol buffer text."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: _Message) -> Iterator[str]:
    for name, value in message.items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                yield f"{name} {{"
                yield from (f"  {line}" for line in _lines(part))
                yield "}"
            else:
                yield f"{name}: {_scalar(part)}"


def _scalar(value: str | int | bool | tuple[int, ...]) -> str:
    if isinstance(value, _Word):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, int):
        return str(value)
    return f"[ {', '.join(map(str, value))} ]" if value else "[ ]"


def _escaped(character: str) -> str:
    code = ord(character)
    return _QUOTED.get(character) or (f"\\{code:03o}" if code < 32 or code == 127 else character)
