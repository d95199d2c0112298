"""ONNX Runtime's static quantization, with the options its documentation gives for TensorRT.

These are: QDQ format, signed 8 bit on both sides, symmetric, Q/DQ at the weights, no quantized bias.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from task import RewindingReader, Task


def main() -> None:
    """Preprocess, then quantize."""
    task = Task.from_command_line()
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(task.model), str(prepared), skip_symbolic_shape=task.transformer)
        quantize_static(
            prepared,
            task.delivered,
            RewindingReader(task.calibration, task.batch),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": True,
            },
        )
    task.deliver(packages=("onnxruntime",))


if __name__ == "__main__":
    main()
