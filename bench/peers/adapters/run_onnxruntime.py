"""ONNX Runtime's static quantization, with the options of its own example for TensorRT (a BERT with Q/DQ).

These are: signed 8 bit on both sides, symmetric; Q and DQ at weights; a pair for every reader; no Q/DQ at the outputs
of weighted operators; of all Adds only those of two computed tensors, which are the skip connections.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from task import RewindingReader, Task

OPERATORS = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Add"]


def main() -> None:
    """Preprocess, then quantize."""
    task = Task.from_command_line()
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(task.model), str(prepared), skip_symbolic_shape=task.transformer)  # it fails on masks
        quantize_static(
            prepared,
            task.delivered,
            RewindingReader(task.calibration, task.batch),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=bias_additions(onnx.load(prepared)),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": True,
                "OpTypesToExcludeOutputQuantization": OPERATORS,
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
            },
        )
    task.deliver(packages=("onnxruntime",))


def bias_additions(model: onnx.ModelProto) -> list[str]:
    """Names of the Adds that add a constant."""
    constants = {initializer.name for initializer in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "Add" and constants.intersection(node.input)]


if __name__ == "__main__":
    main()
