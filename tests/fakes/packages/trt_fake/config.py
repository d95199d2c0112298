"""Builder configurations, optimization profiles and timing caches."""

from __future__ import annotations

import json
from typing import Any

from trt_fake import world
from trt_fake.basics import host_memory
from trt_fake.classes import Stored

_CACHE_MAGIC = b"FAKECACHE"


class IBuilderConfig:
    """Remembers what was asked for; the builder judges it."""

    avg_timing_iterations = Stored(1)
    builder_optimization_level = Stored(3)
    DLA_core = Stored(-1)
    default_device_type = Stored("DeviceType.GPU")
    engine_capability = Stored("EngineCapability.STANDARD")
    hardware_compatibility_level = Stored("HardwareCompatibilityLevel.NONE")
    max_aux_streams = Stored(-1)
    max_num_tactics = Stored(-1)
    profiling_verbosity = Stored("ProfilingVerbosity.LAYER_NAMES_ONLY")
    tiling_optimization_level = Stored("TilingOptimizationLevel.NONE")
    runtime_platform = Stored("RuntimePlatform.SAME_AS_BUILD")
    progress_monitor = Stored(None)
    int8_calibrator = Stored(None)
    algorithm_selector = Stored(None)
    plugins_to_serialize = Stored([])
    num_compute_capabilities = Stored(0)

    def _setup(self, builder: Any) -> None:
        self._builder = builder
        self._flags = {self._api.BuilderFlag.TF32}
        self._profiles: list[Any] = []
        self._limits: dict[Any, int] = {}
        self._features: dict[Any, bool] = {}
        self._devices: dict[Any, Any] = {}
        self._quantization_flags: set[Any] = set()
        self._cache: Any = None
        self._capabilities: dict[int, Any] = {}
        self._sources = sum(1 << int(source) for source in set(self._api.TacticSource.__members__.values()))

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        if index >= self.num_compute_capabilities:
            return False
        self._capabilities[index] = compute_capability
        return True

    def get_compute_capability(self, index: int) -> Any:
        return self._capabilities[index]

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    @property
    def flags(self) -> int:
        return sum(1 << int(flag) for flag in self._flags)

    @flags.setter
    def flags(self, value: int) -> None:
        self._flags = {flag for flag in self._api.BuilderFlag.__members__.values() if value >> int(flag) & 1}

    def add_optimization_profile(self, profile: Any) -> int:
        if not profile:
            self._builder._error(3, "API Usage", "(Parameter check failed, condition: profile.isValid().)")
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._limits[pool] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._limits.get(pool, world.behaviour().memory_mib << 20)

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self._sources = tactic_sources
        return True

    def get_tactic_sources(self) -> int:
        return self._sources

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        self._features[feature] = enable

    def get_preview_feature(self, feature: Any) -> bool:
        return self._features.get(feature, False)

    def set_quantization_flag(self, flag: Any) -> None:
        self._quantization_flags.add(flag)

    def clear_quantization_flag(self, flag: Any) -> None:
        self._quantization_flags.discard(flag)

    def get_quantization_flag(self, flag: Any) -> bool:
        return flag in self._quantization_flags

    def set_device_type(self, layer: Any, device_type: Any) -> None:
        self._devices[layer] = device_type

    def get_device_type(self, layer: Any) -> Any:
        return self._devices.get(layer, self.default_device_type)

    def is_device_type_set(self, layer: Any) -> bool:
        return layer in self._devices

    def reset_device_type(self, layer: Any) -> None:
        self._devices.pop(layer, None)

    def can_run_on_DLA(self, layer: Any) -> bool:  # noqa: N802 - the real name
        return world.behaviour().dla_cores > 0

    def create_timing_cache(self, serialized_timing_cache: memoryview) -> Any:
        data = bytes(serialized_timing_cache)
        if not data:
            return self._api.ITimingCache._create(owner=self._builder, platform=_platform(), entries={})
        if not data.startswith(_CACHE_MAGIC):
            self._builder._error(1, "Serialization", "(Serialization assertion magicTagRead == kMAGIC_TAG failed.)")
            return None
        content = json.loads(data[len(_CACHE_MAGIC) :])
        return self._api.ITimingCache._create(owner=self._builder, **content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache is None or (cache._platform != _platform() and not ignore_mismatch):
            self._builder._error(
                6, "API Usage", "(The timing cache was created on an incompatible device or by another version.)"
            )
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class ITimingCache:
    """Names of timed layers; a layer found here is not timed again."""

    def _setup(self, owner: Any, platform: list[str], entries: dict[str, int]) -> None:
        self._owner, self._platform, self._entries = owner, platform, dict(entries)

    def serialize(self) -> Any:
        content = {"platform": self._platform, "entries": self._entries}
        return host_memory(self._api, _CACHE_MAGIC + json.dumps(content).encode())

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        if input_cache._platform != self._platform and not ignore_mismatch:
            return False
        self._entries |= input_cache._entries
        return True

    def reset(self) -> bool:
        self._entries.clear()
        return True


class IOptimizationProfile:
    """Shape ranges of inputs."""

    extra_memory_target = Stored(1.0)

    def _setup(self) -> None:
        self._ranges: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        if not all(low <= best <= high for low, best, high in zip(min, opt, max, strict=True)):
            raise ValueError("Shape provided for min, opt or max is inconsistent.")
        self._ranges[input] = (min, opt, max)

    def get_shape(self, input: str) -> list[Any]:
        return list(self._ranges.get(input, ()))

    def __bool__(self) -> bool:
        return True


def _platform() -> list[str]:
    return [world.behaviour().gpu, world.configuration()["version"]]


class IRuntimeCache:
    """What TensorRT for RTX compiled on the GPU: here the name of that GPU."""

    def _setup(self) -> None:
        self._known = b""

    def deserialize(self, blob: bytes) -> bool:
        self._known = bytes(blob) if bytes(blob).startswith(_CACHE_MAGIC) else b""
        return bool(self._known)

    def serialize(self) -> Any:
        return host_memory(self._api, self._known or _CACHE_MAGIC + world.behaviour().gpu.encode())

    def reset(self) -> bool:
        self._known = b""
        return True


class IRuntimeConfig:
    """How TensorRT for RTX runs an engine."""

    cuda_graph_strategy = Stored("CudaGraphStrategy.DISABLED")
    dynamic_shapes_kernel_specialization_strategy = Stored("DynamicShapesKernelSpecializationStrategy.LAZY")

    def _setup(self) -> None:
        self._cache: Any = None

    def create_runtime_cache(self) -> Any:
        return self._api.IRuntimeCache._create()

    def set_runtime_cache(self, cache: Any = None) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> Any:
        return self._cache
