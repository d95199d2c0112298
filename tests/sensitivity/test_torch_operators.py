"""Every torch operator against ONNX Runtime, one node at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.runtime.torch_autograd import TorchGraph
from trt_mpq.runtime.torch_operators import OPERATORS, UnsupportedByTorch

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
RANDOM = np.random.default_rng(3)


def floats(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """One node; the first input is fed, the others are constants, None is an omitted input."""

    op_type: str
    inputs: tuple[np.ndarray | None, ...]
    attributes: dict[str, object] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 18

    def model(self) -> ir.Model:
        names = [f"input_{i}" if value is not None else "" for i, value in enumerate(self.inputs)]
        outputs = [f"output_{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op_type, names, outputs, name="node", **self.attributes)
        fed = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in list(zip(names, self.inputs, strict=True))[:1]
        ]
        constants = [
            numpy_helper.from_array(value, name)
            for name, value in list(zip(names, self.inputs, strict=True))[1:]
            if value is not None
        ]
        graph = helper.make_graph(
            [node], "case", fed, [helper.make_empty_tensor_value_info(name) for name in outputs], constants
        )
        opset = [helper.make_opsetid("", self.opset)]
        return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=8))

    def feeds(self) -> dict[str, np.ndarray]:
        return {"input_0": self.inputs[0]} if self.inputs else {}


IMAGE = floats(2, 4, 7, 6)
MATRIX = floats(3, 4)
NEAREST = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
CASES = [
    *(Case(op, (MATRIX,)) for op in ("Abs", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu")),
    *(Case(op, (MATRIX,)) for op in ("LogSoftmax", "Neg", "Relu", "Sigmoid", "Softmax", "Softplus", "Tanh", "Dropout")),
    *(Case(op, (floats(3, 4, low=0.1),)) for op in ("Log", "Reciprocal", "Sqrt")),
    *(Case(op, (floats(2, 3, 4), floats(4))) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu")),
    Case("Elu", (MATRIX,), {"alpha": 0.5}),
    Case("LeakyRelu", (MATRIX,), {"alpha": 0.3}),
    Case("HardSigmoid", (MATRIX,), {"alpha": 0.4, "beta": 0.1}),
    Case("Softmax", (floats(2, 3, 4),), {"axis": 1}),
    Case("LogSoftmax", (floats(2, 3, 4),), {"axis": 0}),
    Case("Gelu", (MATRIX,), opset=20),
    Case("Gelu", (MATRIX,), {"approximate": "tanh"}, opset=20),
    Case("Max", (MATRIX, MATRIX[::-1].copy(), np.float32([0.1]))),
    Case("Div", (integers(7, -7, 9), integers(2, 2, -4))),
    Case("Pow", (floats(3, 4, low=0.1), np.float32(2.5).reshape(()))),
    Case("Pow", (MATRIX, integers(2))),
    Case("Clip", (MATRIX, np.float32(-0.5).reshape(()), np.float32(0.7).reshape(()))),
    Case("Clip", (MATRIX, None, np.float32(0.7).reshape(()))),
    Case("Clip", (MATRIX,)),
    *(Case(op, (MATRIX,)) for op in ("Ceil", "Cos", "Floor", "Selu", "Sign", "Sin")),
    Case("Mish", (MATRIX,), opset=18),
    Case("IsNaN", (np.float32([1.0, np.nan, np.inf]),)),
    *(
        Case(op, (integers(1, 2, 3), integers(2, 2, 2)))
        for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    ),
    *(Case(op, (np.array([True, True, False]), np.array([True, False, False]))) for op in ("And", "Or")),
    Case("Not", (np.array([True, False]),)),
    Case("Mod", (integers(7, -7, 9), integers(2, 2, -4))),
    Case("Mod", (MATRIX, np.float32([0.7])), {"fmod": 1}),
    Case("Equal", (integers(1, 2, 3), integers(1, 0, 3))),
    Case("Where", (np.array([[True, False, True, False]]), MATRIX, np.float32([9.0]))),
    # Matrix products
    Case("MatMul", (floats(2, 3, 4), floats(4, 5))),
    Case("MatMul", (MATRIX, floats(4))),
    Case("Einsum", (floats(2, 3, 4), floats(2, 5, 4)), {"equation": "bic,bjc->bij"}),
    Case("Gemm", (MATRIX, floats(4, 5))),
    Case("Gemm", (MATRIX, floats(5, 4), floats(5)), {"transB": 1}),
    Case("Gemm", (floats(4, 3), floats(4, 5), floats(3, 5)), {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    # Convolutions
    Case("Conv", (IMAGE, floats(3, 4, 3, 2), floats(3)), {"kernel_shape": [3, 2]}),
    Case("Conv", (IMAGE, floats(6, 2, 3, 3)), {"group": 2, "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    Case("Conv", (IMAGE, floats(3, 4, 3, 3)), {"pads": [0, 1, 2, 3], "dilations": [2, 1]}),
    Case("Conv", (IMAGE, floats(3, 4, 3, 3)), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("Conv", (IMAGE, floats(3, 4, 2, 4)), {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    Case("Conv", (IMAGE, floats(3, 4, 3, 3)), {"auto_pad": "VALID"}),
    Case("Conv", (floats(2, 3, 9), floats(4, 3, 3)), {"pads": [2, 0]}),
    Case("Conv", (floats(1, 2, 4, 5, 4), floats(2, 2, 3, 3, 3)), {"pads": [1, 0, 1, 0, 1, 0]}),
    Case("ConvTranspose", (IMAGE, floats(4, 3, 3, 3), floats(3)), {"strides": [2, 2]}),
    Case("ConvTranspose", (IMAGE, floats(4, 2, 3, 2)), {"group": 2, "pads": [1, 0, 0, 1], "dilations": [2, 1]}),
    Case(
        "ConvTranspose",
        (IMAGE, floats(4, 3, 3, 3), floats(3)),
        {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]},
    ),
    Case("ConvTranspose", (IMAGE, floats(4, 3, 2, 2), floats(3)), {"strides": [3, 2], "output_padding": [2, 0]}),
    # Pooling and normalization
    Case("MaxPool", (IMAGE,), {"kernel_shape": [2, 3]}),
    Case("MaxPool", (IMAGE - 5,), {"kernel_shape": [3, 3], "pads": [0, 1, 1, 2], "strides": [2, 2]}),
    Case("MaxPool", (IMAGE,), {"kernel_shape": [3, 2], "strides": [3, 2], "ceil_mode": 1, "dilations": [1, 2]}),
    Case("MaxPool", (floats(2, 3, 8),), {"kernel_shape": [3], "auto_pad": "SAME_UPPER", "strides": [3]}),
    Case("AveragePool", (IMAGE,), {"kernel_shape": [2, 3], "strides": [2, 2]}),
    Case("AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "pads": [0, 1, 1, 2]}),
    Case("AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "pads": [0, 1, 1, 2], "count_include_pad": 1}),
    Case("GlobalAveragePool", (IMAGE,)),
    Case("GlobalMaxPool", (floats(2, 3, 5),)),
    Case("BatchNormalization", (IMAGE, floats(4), floats(4), floats(4), floats(4, low=0.1)), {"epsilon": 0.01}),
    Case("LayerNormalization", (floats(2, 3, 4), floats(4), floats(4))),
    Case("LayerNormalization", (floats(2, 3, 4), floats(3, 4)), {"axis": 1, "epsilon": 0.1}),
    Case("InstanceNormalization", (IMAGE, floats(4), floats(4)), {"epsilon": 0.01}),
    Case("InstanceNormalization", (floats(2, 3, 9), floats(3), floats(3))),
    # Reductions, in both spellings of the axes
    *(Case(op, (floats(2, 3, 4), integers(-1, 0))) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")),
    *(Case(op, (floats(2, 3, 4),), {"axes": [1], "keepdims": 0}, opset=17) for op in ("ReduceMean", "ReduceL2")),
    Case("ReduceSum", (floats(2, 3, 4), integers(1, 2)), {"keepdims": 0}),
    Case("ReduceSumSquare", (floats(2, 3, 4), integers(1, 2))),
    Case("ReduceSum", (floats(2, 3, 4),)),
    Case("ReduceSum", (floats(2, 3, 4),), {"noop_with_empty_axes": 1}),
    # Shapes and data movement
    Case("Cast", (MATRIX,), {"to": TensorProto.INT64}),
    Case("Cast", (integers(1, 0),), {"to": TensorProto.FLOAT}),
    Case("Concat", (MATRIX, floats(3, 2)), {"axis": -1}),
    Case("Constant", (), {"value": numpy_helper.from_array(MATRIX)}),
    Case("Constant", (), {"value_ints": [1, 2]}),
    Case("Constant", (), {"value_float": 1.5}),
    Case("ConstantOfShape", (integers(2, 3),), {"value": helper.make_tensor("v", TensorProto.INT64, [1], [4])}),
    Case("ConstantOfShape", (integers(2, 3),)),
    *(
        Case("CumSum", (floats(2, 3, 4), np.array(-2)), attributes)
        for attributes in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1})
    ),
    *(Case("DepthToSpace", (floats(2, 8, 3, 5),), {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")),
    Case("Expand", (floats(3, 1), integers(2, 1, 4))),
    Case("Flatten", (IMAGE,)),
    Case("Flatten", (IMAGE,), {"axis": 0}),
    Case("Flatten", (IMAGE,), {"axis": -1}),
    Case("Gather", (MATRIX, np.array([[0, 2], [-1, 1]]))),
    Case("Gather", (MATRIX, np.array(1)), {"axis": 1}),
    Case("GatherElements", (MATRIX, np.array([[0, 2, -1, 1]])), {"axis": 0}),
    Case("GatherND", (floats(2, 3, 4), np.array([[0, 1], [1, -1]]))),
    Case("GatherND", (floats(2, 3, 4), np.array([[[0]], [[2]]])), {"batch_dims": 1}),
    Case("GatherND", (floats(2, 3, 4), np.array([[1, 2, 3], [0, 0, 0]]))),
    Case("Pad", (MATRIX, integers(1, 0, 0, 2))),
    Case("Pad", (MATRIX, integers(1, 2), np.float32(3.0).reshape(()), integers(-1))),
    Case("Range", (np.array(2), np.array(11), np.array(3))),
    Case("Range", (*(np.array(value, np.float32) for value in (0.5, -2, -0.5)),)),
    Case("Reshape", (IMAGE, integers(0, -1, 6))),
    Case("Resize", (IMAGE, None, np.float32([1, 1, 2, 2]))),
    Case("Resize", (IMAGE, None, np.float32([1, 1, 3, 2])), NEAREST),
    Case("Resize", (IMAGE, None, None, integers(2, 4, 5, 11)), NEAREST),
    *(
        Case("Resize", (IMAGE, None, None, integers(2, 4, 10, 9)), {"mode": "linear", **more})
        for more in ({}, {"coordinate_transformation_mode": "align_corners"})
    ),
    Case("Resize", (floats(2, 3, 5), None, np.float32([1, 1, 3])), {"mode": "linear"}),
    Case("Shape", (IMAGE,)),
    Case("Shape", (IMAGE,), {"start": 1, "end": -1}),
    Case("Slice", (IMAGE, integers(1, 0), integers(100, -1))),
    Case("Slice", (IMAGE, integers(0, 1), integers(7, 6), integers(-2, 3), integers(2, 3))),
    Case("Slice", (IMAGE, integers(-1), integers(np.iinfo(np.int64).min), integers(2), integers(-2))),
    Case("Split", (floats(7, 2), integers(3, 4)), outputs=2),
    Case("Split", (floats(2, 7),), {"axis": 1, "num_outputs": 3}, outputs=3),
    Case("Squeeze", (floats(1, 3, 1),)),
    Case("Squeeze", (floats(1, 3, 1), integers(-1))),
    Case("Tile", (MATRIX, integers(2, 3))),
    Case("Transpose", (floats(2, 3, 4),)),
    Case("Transpose", (floats(2, 3, 4),), {"perm": [1, 2, 0]}),
    Case("Trilu", (floats(2, 3, 4),)),
    Case("Trilu", (floats(2, 3, 4), np.array(-1)), {"upper": 0}),
    Case("Unsqueeze", (MATRIX, integers(-1, 0))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op_type}-{'-'.join(case.attributes) or 'plain'}")
def test_operator_equals_onnx_runtime(case: Case) -> None:
    model = case.model()
    expected = OnnxRuntime(1).load(model).run(case.feeds())
    actual = TorchGraph(model).run({name: torch.tensor(value) for name, value in case.feeds().items()})
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert actual[name].numpy().dtype == value.dtype
        np.testing.assert_allclose(actual[name].numpy(), value, rtol=2e-5, atol=2e-5)


def test_every_operator_has_a_case() -> None:
    assert {case.op_type for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case("Hardmax", (MATRIX,)), "operator Hardmax .*node"),
        (Case("Resize", (IMAGE, None, np.float32([1, 1, 3, 3]))), "Resize with nearest values but of doubled"),
        (Case("Resize", (IMAGE, None, np.float32([1, 1, 0.3, 1]))), "Resize with sizes that are not whole"),
        (Case("Resize", (IMAGE, None, np.float32([1, 1, 2, 2])), {"mode": "cubic"}), "Resize with cubic"),
        (Case("Pad", (MATRIX, integers(1, 0, 0, 1)), {"mode": "reflect"}), "Pad with mode 'reflect'"),
        (Case("AveragePool", (IMAGE,), {"kernel_shape": [2, 2], "ceil_mode": 1}), "AveragePool with ceil_mode"),
        (Case("MaxPool", (IMAGE,), {"kernel_shape": [2, 2]}, outputs=2), "MaxPool with 2 outputs"),
        (Case("ConvTranspose", (IMAGE, floats(4, 3, 2, 2)), {"auto_pad": "SAME_UPPER"}), "with auto_pad"),
        (Case("Relu", (MATRIX,), opset=12), "opset 13"),
    ],
    ids=lambda value: value.op_type if isinstance(value, Case) else "",
)
def test_what_torch_cannot_run_is_refused_by_name(case: Case, message: str) -> None:
    with pytest.raises(UnsupportedByTorch, match=message):
        TorchGraph(case.model()).run({name: torch.tensor(value) for name, value in case.feeds().items()})
