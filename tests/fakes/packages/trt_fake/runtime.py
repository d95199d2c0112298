"""Runtimes and engines: what may be loaded where, and what an engine says of itself."""

from __future__ import annotations

from typing import Any

from trt_fake import plan as plans
from trt_fake import world
from trt_fake.basics import host_memory
from trt_fake.builder import refuse_without_driver
from trt_fake.classes import Stored
from trt_fake.engine_layer import Border
from trt_fake.network import DATA_TYPES
from trt_fake.plan import Plan


class Runtime:
    """Loads plans that were built for this version and this GPU."""

    DLA_core = Stored(-1)
    engine_host_code_allowed = Stored(False)
    max_threads = Stored(1)
    error_recorder = Stored(None)
    temporary_directory = Stored("")

    def _construct(self, logger: Any) -> None:
        refuse_without_driver(logger, "createInferRuntime")
        self._logger = logger

    @property
    def logger(self) -> Any:
        return self._logger

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802 - the real name
        return world.behaviour().dla_cores

    def deserialize_cuda_engine(
        self, serialized_engine: Any = None, stream_reader: Any = None, stream_reader_v2: Any = None
    ) -> Any:
        if serialized_engine is None:
            raise NotImplementedError("the fake TensorRT does not implement stream readers")
        try:
            plan = plans.read(bytes(serialized_engine))
        except ValueError as error:
            return self._refuse(
                1, "Serialization", f"(Serialization assertion magicTagRead == kMAGIC_TAG failed.{error})"
            )
        complaint = self._complaint(plan)
        if complaint is not None:
            return self._refuse(*complaint)
        if plan.gpu != world.behaviour().gpu:
            self._logger.log(
                self._api.Logger.WARNING,
                "Using an engine plan file across different models of devices is not recommended "
                "and is likely to affect performance or even cause errors.",
            )
        return self._api.ICudaEngine._create(plan=plan, logger=self._logger)

    def _refuse(self, code: int, kind: str, message: str) -> None:
        self._logger.log(
            self._api.Logger.ERROR, f"IRuntime::deserializeCudaEngine: Error Code {code}: {kind} Error {message}"
        )

    def _complaint(self, plan: Plan) -> tuple[int, str, str] | None:
        here, settings = world.configuration()["version"], world.behaviour()
        if plan.version != here and not plan.version_compatible:
            message = (
                "(Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. "
                f"Note: Current Version: {here}, Serialized Engine Version: {plan.version})"
            )
            return 1, "Serialization", message
        if plan.version_compatible and not self.engine_host_code_allowed:
            return 4, "API Usage", "(Cannot deserialize a version compatible engine: engineHostCodeAllowed is false.)"
        fits = plan.sm == settings.sm or (plan.portable == "AMPERE_PLUS" and settings.sm >= 80)
        if not fits:
            message = (
                "(The engine plan file is generated on an incompatible device, "
                f"expecting compute {settings.sm / 10} got compute {plan.sm / 10}, please rebuild.)"
            )
            return 6, "API Usage", message
        return None


class ICudaEngine:
    """A loaded plan."""

    error_recorder = Stored(None)

    def _setup(self, plan: Plan, logger: Any) -> None:
        self._plan, self._logger = plan, logger

    def _border(self, name: str) -> Border | None:
        return next((b for b in (*self._plan.inputs, *self._plan.outputs) if b.name == name), None)

    def _is_input(self, name: str) -> bool:
        return any(border.name == name for border in self._plan.inputs)

    @property
    def name(self) -> str:
        return self._plan.name

    @property
    def num_io_tensors(self) -> int:
        return len(self._plan.inputs) + len(self._plan.outputs)

    @property
    def num_layers(self) -> int:
        return len(self._plan.layers)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._plan.profiles)

    @property
    def num_aux_streams(self) -> int:
        return 0

    @property
    def refittable(self) -> bool:
        return self._plan.refittable

    @property
    def has_implicit_batch_dimension(self) -> bool:
        return False

    @property
    def profiling_verbosity(self) -> Any:
        return getattr(self._api.ProfilingVerbosity, self._plan.verbosity)

    @property
    def hardware_compatibility_level(self) -> Any:
        return getattr(self._api.HardwareCompatibilityLevel, self._plan.portable)

    @property
    def engine_capability(self) -> Any:
        return getattr(self._api.EngineCapability, self._plan.capability)

    @property
    def device_memory_size(self) -> int:
        return 1 << 20

    @property
    def device_memory_size_v2(self) -> int:
        return 1 << 20

    def get_tensor_name(self, index: int) -> str:
        return (*self._plan.inputs, *self._plan.outputs)[index].name

    def get_tensor_mode(self, name: str) -> Any:
        if self._border(name) is None:
            return self._api.TensorIOMode.NONE
        return self._api.TensorIOMode.INPUT if self._is_input(name) else self._api.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        border = self._border(name)
        return getattr(self._api.DataType, DATA_TYPES[border.dtype] if border else "FLOAT")

    def get_tensor_shape(self, name: str) -> Any:
        border = self._border(name)
        return self._api.Dims(border.shape if border else ())

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
        if not self._is_input(name) or profile_index >= len(self._plan.profiles):
            return []
        return [self._api.Dims(shape) for shape in self._plan.profiles[profile_index][name]]

    def get_tensor_location(self, name: str) -> Any:
        return self._api.TensorLocation.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        return self._api.TensorFormat.LINEAR

    def get_tensor_format_desc(self, name: str, profile_index: int = 0) -> str:
        return "Row major linear (linear)"

    def get_tensor_bytes_per_component(self, name: str, profile_index: int = 0) -> int:
        return int(self.get_tensor_dtype(name).itemsize)

    def get_tensor_components_per_element(self, name: str, profile_index: int = 0) -> int:
        return -1

    def get_tensor_vectorized_dim(self, name: str, profile_index: int = 0) -> int:
        return -1

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def create_engine_inspector(self) -> Any:
        return self._api.EngineInspector._create(plan=self._plan)

    def create_runtime_config(self) -> Any:
        return self._api.IRuntimeConfig._create()

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Any:
        return self._api.IExecutionContext._create(engine=self, plan=self._plan, logger=self._logger)

    def serialize(self) -> Any:
        return host_memory(self._api, self._plan.serialize())
