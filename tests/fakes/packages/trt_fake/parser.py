"""The ONNX parser: a model becomes layers named like its nodes, or errors that name the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from trt_fake.onnx_graph import Graph, TensorInfo

LAYER_KINDS = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "Gemm": "MATRIX_MULTIPLY",
    "MatMul": "MATRIX_MULTIPLY",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Cast": "CAST",
    "Identity": "IDENTITY",
    "Dropout": "IDENTITY",
    "Concat": "CONCATENATION",
    "Softmax": "SOFTMAX",
    "LogSoftmax": "SOFTMAX",
    "BatchNormalization": "SCALE",
    "LayerNormalization": "NORMALIZATION",
    "InstanceNormalization": "NORMALIZATION",
    "LRN": "LRN",
    "Gather": "GATHER",
    "Slice": "SLICE",
    "Split": "SLICE",
    "Pad": "SLICE",
    "Expand": "SLICE",
    "Resize": "RESIZE",
    "Upsample": "RESIZE",
    "Shape": "SHAPE",
    "Constant": "CONSTANT",
    "ConstantOfShape": "FILL",
    "Where": "SELECT",
    "Einsum": "EINSUM",
    "TopK": "TOPK",
    "ArgMax": "TOPK",
    "PRelu": "PARAMETRIC_RELU",
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), "POOLING"),
    **dict.fromkeys(
        ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Elu", "Selu", "HardSigmoid", "HardSwish", "Softplus", "Gelu"),
        "ACTIVATION",
    ),
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Greater", "Less", "Equal"), "ELEMENTWISE"
    ),
    **dict.fromkeys(
        ("Sqrt", "Exp", "Log", "Abs", "Neg", "Erf", "Floor", "Ceil", "Round", "Reciprocal", "Not"), "UNARY"
    ),
    **dict.fromkeys(("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "DepthToSpace"), "SHUFFLE"),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2"), "REDUCE"),
}
"""Operators with an importer, and the layer type each becomes."""

_KERNEL_WEIGHTS = {"Conv": (1, 2), "ConvTranspose": (1, 2), "BatchNormalization": (1, 2, 3, 4)}
"""Inputs that become kernels of the layer, not tensors, when they are stored constants."""

_NO_PLUGIN = 'Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"'


class ParserError:
    """What the parser did not like, and where."""

    def _setup(self, node: int, name: str, operator: str, code: str, desc: str, func: str) -> None:
        self._where, self._node_name, self._operator = node, name, operator
        self._reason, self._description, self._function = code, desc, func

    def node(self) -> int:
        return self._where

    def node_name(self) -> str:
        return self._node_name

    def node_operator(self) -> str:
        return self._operator

    def code(self) -> Any:
        return getattr(self._api.ErrorCode, self._reason)

    def desc(self) -> str:
        return self._description

    def func(self) -> str:
        return self._function

    def file(self) -> str:
        return "onnxOpImporters.cpp"

    def line(self) -> int:
        return 1

    def local_function_stack(self) -> list[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0

    def __str__(self) -> str:
        where = f"In node {self._where}"
        if hasattr(self._api.ParserError, "node_name"):
            where += f" with name: {self._node_name} and operator: {self._operator}"
        return f"{where} ({self._function}): {self._reason}: {self._description}"

    __repr__ = __str__


class OnnxParser:
    """Fills a network."""

    def _construct(self, network: Any, logger: Any) -> None:
        self._network, self._logger = network, logger
        self._errors: list[Any] = []
        kinds = getattr(self._api, "OnnxParserFlag", None)
        self._flags: set[Any] = {kinds.NATIVE_INSTANCENORM} if kinds else set()

    def parse(self, model: memoryview, path: str | None = None) -> bool:
        try:
            proto = onnx.load_model_from_string(bytes(model))
            if path is not None:
                onnx.load_external_data_for_model(proto, str(Path(path).parent))
        except Exception as error:  # protobuf and onnx have no common base
            return self._fail(
                0, "", "", "MODEL_DESERIALIZE_FAILED", f"Failed to parse the ONNX model: {error}", "parse"
            )
        return self._import(proto)

    def parse_from_file(self, model: str) -> bool:
        try:
            proto = onnx.load(model)
        except Exception as error:  # protobuf, onnx and the file system have no common base
            description = f"Failed to parse ONNX model from file: {model}: {error}"
            return self._fail(0, "", "", "MODEL_DESERIALIZE_FAILED", description, "parseFromFile")
        return self._import(proto)

    def supports_operator(self, op_name: str) -> bool:
        return op_name in LAYER_KINDS

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()

    @property
    def flags(self) -> int:
        return sum(1 << int(flag) for flag in self._flags)

    @flags.setter
    def flags(self, value: int) -> None:
        self._flags = {flag for flag in self._api.OnnxParserFlag.__members__.values() if value >> int(flag) & 1}

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def get_used_vc_plugin_libraries(self) -> list[str]:
        return []

    def set_builder_config(self, builder_config: Any) -> bool:
        return builder_config is not None

    def _fail(self, node: int, name: str, operator: str, code: str, desc: str, func: str) -> bool:
        error = self._api.ParserError._create(node=node, name=name, operator=operator, code=code, desc=desc, func=func)
        self._errors.append(error)
        self._logger.log(self._api.Logger.ERROR, str(error))
        return False

    def _import(self, model: onnx.ModelProto) -> bool:
        if getattr(self._network, "has_implicit_batch_dimension", False):  # RTX has none
            return self._fail(
                0,
                "",
                "",
                "INVALID_VALUE",
                "This version of the ONNX parser only supports explicit batch networks",
                "parse",
            )
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        if opset > self._api._newest_opset:
            description = f"The ONNX model uses opset {opset}, this version reads up to {self._api._newest_opset}"
            return self._fail(0, "", "", "UNSUPPORTED_GRAPH", description, "parseGraph")
        for index, node in enumerate(model.graph.node):
            if node.op_type not in LAYER_KINDS or node.domain not in ("", "ai.onnx"):
                self._fail(
                    index, node.name, node.op_type, "UNSUPPORTED_NODE", _NO_PLUGIN, "importFallbackPluginImporter"
                )
        if self._errors:
            return False
        try:
            onnx.checker.check_model(model)
            graph = Graph.of(model)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            return self._fail(0, "", "", "INVALID_GRAPH", str(error), "parseGraph")
        return self._check_types(graph) and _Importer(self._api, self._network, graph).run()

    def _check_types(self, graph: Graph) -> bool:
        """Whether this version has every element type of the graph."""
        lacking = {"fp8", "bf16"} if not hasattr(self._api.DataType, "BF16") else set()
        for index, node in enumerate(graph.nodes):
            for name in [*node.input, *node.output]:
                if name and graph.info(name).dtype in lacking:
                    description = f"Unsupported data type {graph.info(name).dtype} of tensor {name}"
                    return self._fail(index, node.name, node.op_type, "UNSUPPORTED_NODE", description, "convertDtype")
        return True


class _Importer:
    """Makes the layers of a network from a graph."""

    def __init__(self, api: Any, network: Any, graph: Graph) -> None:
        self._api, self._network, self._graph = api, network, graph
        self._tensors: dict[str, Any] = {}
        self._names: dict[str, int] = {}

    def run(self) -> bool:
        """Fill the network."""
        graph = self._graph
        for name in graph.inputs:
            tensor = self._tensor(graph.info(name))
            tensor._input = True
            self._network._inputs.append(tensor)
        for index, node in enumerate(graph.nodes):
            self._node(index, node)
        for name in graph.outputs:
            self._network.mark_output(self._tensors[name])
        self._network._graph = graph
        return True

    def _node(self, index: int, node: Any) -> None:
        kernels = _KERNEL_WEIGHTS.get(node.op_type, ())
        inputs = []
        for position, name in enumerate(node.input):
            if not name or (position in kernels and name in self._graph.initializers):
                continue
            if name in self._graph.initializers and name not in self._tensors:
                self._layer(name, "CONSTANT", [], [self._tensor(self._graph.info(name))], "", -1)
            inputs.append(self._tensors[name])
        outputs = [self._tensor(self._graph.info(name)) for name in node.output if name]
        metadata = f"[ONNX Layer: {node.name}]"
        if node.op_type == "Gemm" and len(inputs) > 2:
            product = TensorInfo(f"(Unnamed Layer* {len(self._network)}) [Matrix Multiply]_output", "fp32", None)
            product = TensorInfo(product.name, outputs[0]._code, outputs[0]._shape)
            middle = self._tensor(product)
            self._layer(node.name, LAYER_KINDS[node.op_type], inputs[:2], [middle], metadata, index)
            unnamed = f"(Unnamed Layer* {len(self._network)}) [ElementWise]"
            self._layer(unnamed, "ELEMENTWISE", [middle, inputs[2]], outputs, metadata, -1)
            return
        self._layer(node.name, LAYER_KINDS[node.op_type], inputs, outputs, metadata, index)

    def _layer(self, name: str, kind: str, inputs: list[Any], outputs: list[Any], metadata: str, node: int) -> None:
        repeated = self._names.get(name, 0)
        self._names[name] = repeated + 1
        unique = f"{name}_{repeated}" if repeated else name
        self._network._layers.append(
            self._api.ILayer._create(
                network=self._network,
                name=unique,
                kind=kind,
                inputs=inputs,
                outputs=outputs,
                metadata=metadata,
                node=node,
            )
        )

    def _tensor(self, info: TensorInfo) -> Any:
        tensor = self._api.ITensor._create(name=info.name, dtype=info.dtype, shape=info.shape)
        self._tensors[info.name] = tensor
        return tensor
