"""Networks, their layers and tensors."""

from __future__ import annotations

from typing import Any

from trt_fake.classes import Stored

DATA_TYPES = {
    "fp32": "FLOAT",
    "fp16": "HALF",
    "bf16": "BF16",
    "fp8": "FP8",
    "int8": "INT8",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}


class ITensor:
    """A tensor of a network."""

    allowed_formats = Stored((1 << 17) - 1)
    broadcast_across_batch = Stored(False)
    location = Stored("TensorLocation.DEVICE")

    def _setup(self, name: str, dtype: str, shape: Any) -> None:
        self._name, self._code, self._shape = name, dtype, shape
        self._input = self._output = False
        self._range: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = value

    @property
    def dtype(self) -> Any:
        return getattr(self._api.DataType, DATA_TYPES[self._code])

    @dtype.setter
    def dtype(self, value: Any) -> None:
        self._code = next(code for code, name in DATA_TYPES.items() if name == value.name)

    @property
    def shape(self) -> Any:
        if self._shape is None:
            raise ValueError("__len__() should return >= 0")
        return self._api.Dims(self._shape)

    @shape.setter
    def shape(self, value: Any) -> None:
        self._shape = tuple(value)

    @property
    def is_network_input(self) -> bool:
        return self._input

    @property
    def is_network_output(self) -> bool:
        return self._output

    @property
    def is_shape_tensor(self) -> bool:
        return False

    @property
    def is_execution_tensor(self) -> bool:
        return True

    @property
    def dynamic_range(self) -> Any:
        return self._range

    @dynamic_range.setter
    def dynamic_range(self, value: Any) -> None:
        self._range = tuple(value)

    def set_dynamic_range(self, min: float, max: float) -> bool:
        self._range = (min, max)
        return True

    def reset_dynamic_range(self) -> None:
        self._range = None


class ILayer:
    """A layer of a network. Requests for a precision are refused in a strongly typed one."""

    def _setup(
        self, network: Any, name: str, kind: str, inputs: list[Any], outputs: list[Any], metadata: str, node: int
    ) -> None:
        self._network, self._kind, self._inputs, self._outputs = network, kind, inputs, outputs
        self._name, self._metadata, self._node = name, metadata, node
        self._precision: Any = None
        self._output_types: dict[int, Any] = {}

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = value

    @property
    def metadata(self) -> str:
        return self._metadata

    @metadata.setter
    def metadata(self, value: str) -> None:
        self._metadata = value

    @property
    def type(self) -> Any:
        return getattr(self._api.LayerType, self._kind)

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> Any:
        return self._inputs[index] if index < len(self._inputs) else None

    def get_output(self, index: int) -> Any:
        return self._outputs[index] if index < len(self._outputs) else None

    @property
    def precision(self) -> Any:
        return self._precision if self._precision is not None else self._api.DataType.FLOAT

    @precision.setter
    def precision(self, value: Any) -> None:
        if self._network._allows_precisions(f"ILayer::setPrecision on {self._name}"):
            self._precision = value

    @property
    def precision_is_set(self) -> bool:
        return self._precision is not None

    def reset_precision(self) -> None:
        self._precision = None

    def set_output_type(self, index: int, dtype: Any) -> None:
        if self._network._allows_precisions(f"ILayer::setOutputType on {self._name}"):
            self._output_types[index] = dtype

    def get_output_type(self, index: int) -> Any:
        return self._output_types.get(index, self._outputs[index].dtype)

    def output_type_is_set(self, index: int) -> bool:
        return index in self._output_types

    def reset_output_type(self, index: int) -> None:
        self._output_types.pop(index, None)


class INetworkDefinition:
    """What the parser filled."""

    name = Stored("Unnamed Network 0")

    def _setup(self, builder: Any, flags: int) -> None:
        self._builder, self._mask = builder, flags
        self._layers: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._graph: Any = None
        self._misused: list[str] = []
        strong = getattr(self._api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        always = not hasattr(self._api.BuilderFlag, "FP16")
        self._strong = always or (strong is not None and bool(flags >> int(strong) & 1))

    def _allows_precisions(self, what: str) -> bool:
        if self._strong:
            message = f"({what}: precision is not allowed in a strongly typed network.)"
            self._builder._error(9, "API Usage", message)
            self._misused.append(message)
        return not self._strong

    @property
    def builder(self) -> Any:
        return self._builder

    @property
    def flags(self) -> int:
        return self._mask

    def get_flag(self, flag: Any) -> bool:
        return bool(self._mask >> int(flag) & 1)

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    @property
    def has_implicit_batch_dimension(self) -> bool:
        explicit = getattr(self._api.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        old = hasattr(self._api.NetworkDefinitionCreationFlag, "EXPLICIT_PRECISION")
        return old and not self._mask >> int(explicit) & 1

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def get_layer(self, index: int) -> Any:
        return self._layers[index]

    def mark_output(self, tensor: Any) -> None:
        tensor._output = True
        self._outputs.append(tensor)

    def unmark_output(self, tensor: Any) -> None:
        tensor._output = False
        self._outputs.remove(tensor)

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int) -> Any:
        return self._layers[index]
