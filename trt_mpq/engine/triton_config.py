"""The config.pbtxt of an engine for Triton Inference Server.

Field names are those of Triton's model_config.proto. Triton forms batches itself, so a model whose every tensor has a
free batch dimension is described without it and with the largest batch of its profile; any other is described whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trt_mpq.engine.manifest import EngineManifest
from trt_mpq.engine.text_format import Field, Message, Word, render
from trt_mpq.errors import ModelError, RunFolderError
from trt_mpq.types import TensorSpec
from trt_mpq.types.engine import ShapeRange

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


@dataclass(frozen=True)
class TritonOptions:
    """How Triton serves a model: copies per GPU, whether it joins requests, and how long it waits for more of them."""

    instances: int = 1
    dynamic_batching: bool = True
    max_queue_delay_us: int = 0


def model_config(
    manifest: EngineManifest,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    name: str,
    options: TritonOptions,
) -> str:
    """The text of config.pbtxt.

    Raises:
        RunFolderError: The manifest lacks the profile of a dynamic input.
        ModelError: A tensor has a type that Triton does not know.
    """
    profile = _Profile.of(manifest, inputs, outputs)
    old_integers = manifest.platform.tensorrt.startswith("8.")
    fields: list[tuple[str, Field]] = [
        ("name", name),
        ("platform", "tensorrt_plan"),
        ("max_batch_size", profile.largest_batch),
        *(("input", _tensor(spec, profile.input_dims(spec), old_integers)) for spec in inputs),
        *(("output", _tensor(spec, profile.output_dims(spec), old_integers)) for spec in outputs),
        ("instance_group", _instances(manifest, options)),
    ]
    if options.dynamic_batching and profile.largest_batch > 1:
        fields.append(("dynamic_batching", _batching(profile, options)))
    if manifest.options.get("cuda_graph") is True:
        graphs = Message((("graphs", True), *(("graph_spec", graph) for graph in profile.graphs(inputs))))
        fields.append(("optimization", Message((("cuda", graphs),))))
    return _header(manifest) + render(Message(tuple(fields)))


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

    def graphs(self, inputs: tuple[TensorSpec, ...]) -> Iterator[Message]:
        """The CUDA graphs worth capturing: one request alone, the batch tuned for, and the largest."""
        batches = sorted({1, self.preferred_batch, self.largest_batch}) if self.largest_batch else [0]
        shapes = tuple(
            ("input", Message((("key", spec.name), ("value", _graph_shape(self._of_request(shape))))))
            for spec in inputs
            for shape in (self.ranges[spec.name].optimum,)
        )
        return (Message((("batch_size", batch), *shapes)) for batch in batches)

    def _of_request(self, dims: tuple[int, ...]) -> tuple[int, ...]:
        return dims[1:] if self.largest_batch else dims


def _graph_shape(dims: tuple[int, ...]) -> Message:
    return Message((("dim", dims),))


def _range(manifest: EngineManifest, spec: TensorSpec) -> ShapeRange:
    sizes = tuple(size for size in spec.shape if isinstance(size, int))
    if len(sizes) == len(spec.shape):
        return ShapeRange(sizes, sizes, sizes)
    if spec.name not in manifest.shapes:
        raise RunFolderError(
            f"the engine's manifest has no shapes of the dynamic input {spec.name}: "
            f"rebuild it with `{manifest.rebuild}`"
        )
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


def _tensor(spec: TensorSpec, dims: tuple[int, ...], old_integers: bool) -> Message:
    """Description of an input or output; Triton has no shape without dimensions, only a reshape to one."""
    if spec.dtype not in _DATA_TYPES:
        raise ModelError(
            f"{spec.name} is {spec.dtype}, which Triton's TensorRT backend does not take: cast it in the model"
        )
    # TensorRT 8 imports 64-bit integers as 32-bit ones.
    dtype = "int32" if old_integers and spec.dtype == "int64" else spec.dtype
    scalar = (("reshape", Message((("shape", ()),))),) if not dims else ()
    return Message((("name", spec.name), ("data_type", Word(_DATA_TYPES[dtype])), ("dims", dims or (1,)), *scalar))


def _instances(manifest: EngineManifest, options: TritonOptions) -> Message:
    core = manifest.options.get("dla_core")
    device = Message((("kind", Word("KIND_NVDLA")), ("device_id", core))) if isinstance(core, int) else None
    return Message(
        (
            ("count", options.instances),
            ("kind", Word("KIND_GPU")),
            *((("secondary_devices", device),) if device else ()),
        )
    )


def _batching(profile: _Profile, options: TritonOptions) -> Message:
    # To prefer a batch of one would be to send every request alone.
    preferred = (("preferred_batch_size", (profile.preferred_batch,)),) if profile.preferred_batch > 1 else ()
    return Message((*preferred, ("max_queue_delay_microseconds", options.max_queue_delay_us)))


def _header(manifest: EngineManifest) -> str:
    """What the server needs that its configuration cannot say, as comments."""
    platform = manifest.platform
    backend = [f'plugins="{";".join(manifest.options["plugins"])}"'] if manifest.options.get("plugins") else []
    backend += ["version-compatible=true"] if manifest.options.get("version_compatible") is True else []
    lines = [
        f"Engine for {platform.gpu}, TensorRT {platform.tensorrt}, by trt-mpq {manifest.version}, "
        f"plan {manifest.plan_digest}.",
        *(f"Start the server with --backend-config=tensorrt,{option}" for option in backend),
    ]
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)
