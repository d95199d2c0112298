"""Model Optimizer: ONNX post-training quantization to INT8 or FP8, the rest in FP16; it takes no accuracy target."""

from __future__ import annotations

from modelopt.onnx.quantization import quantize
from task import Task


def main() -> None:
    """Quantize with the default calibration."""
    task = Task.from_command_line()
    quantize(
        str(task.model),
        quantize_mode=task.precision,
        calibration_data=task.calibration,
        calibration_eps=["cpu"],
        output_path=str(task.delivered),
    )
    task.deliver(packages=("nvidia-modelopt", "onnxruntime-gpu", "torch"))


if __name__ == "__main__":
    main()
