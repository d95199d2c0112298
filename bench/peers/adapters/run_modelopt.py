"""Model Optimizer: ONNX post-training quantization, the rest in FP16; it takes no accuracy target.

To INT8 or FP8 with its default calibration; to INT4 weights by the method that the precision names behind a colon.
"""

from __future__ import annotations

from modelopt.onnx.quantization import quantize
from task import Task


def main() -> None:
    """Quantize."""
    task = Task.from_command_line()
    mode, _, method = task.precision.partition(":")
    quantize(
        str(task.model),
        quantize_mode=mode,
        calibration_data=task.calibration,
        calibration_eps=["cpu"],
        output_path=str(task.delivered),
        **({"calibration_method": method} if method else {}),
    )
    task.deliver(packages=("nvidia-modelopt", "onnxruntime-gpu", "torch"))


if __name__ == "__main__":
    main()
