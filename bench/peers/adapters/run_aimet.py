"""AIMET: automatic mixed precision (AMP) between W8A8 and FP16 on a simulated quantized model, exported with Q/DQ."""

from __future__ import annotations

from typing import Any

import onnx
from aimet_onnx import QuantizationSimModel, int8
from aimet_onnx.common.defs import CallbackFunc, QuantizationDataType
from aimet_onnx.mixed_precision import choose_mixed_precision
from task import Task, run, session_of

INT8 = (8, QuantizationDataType.int)
FP16 = (16, QuantizationDataType.float)


def main() -> None:
    """Search with the whole evaluation set in both phases, as the drop is promised on it."""
    task = Task.from_command_line()

    def calibrate(session: Any, _: Any = None) -> None:
        for feeds in task.calibration_batches():
            run(session, feeds)

    def evaluate(session: Any, _: Any) -> float:
        return task.evaluate(session)

    simulated = QuantizationSimModel(onnx.load(task.model), param_type=int8, activation_type=int8)
    simulated.compute_encodings(calibrate)
    choose_mixed_precision(
        simulated,
        candidates=[(FP16, FP16), (INT8, INT8)],
        eval_callback_for_phase1=CallbackFunc(evaluate),
        eval_callback_for_phase2=CallbackFunc(evaluate),
        allowed_accuracy_drop=(1 - task.target) * task.evaluate(session_of(task.model)),
        results_dir=str(task.folder / "amp"),
        clean_start=True,
        forward_pass_callback=CallbackFunc(calibrate),
        use_all_amp_candidates=True,
    )
    task.deliver(simulated.to_onnx_qdq(), packages=("aimet-onnx", "onnxruntime", "torch"))


if __name__ == "__main__":
    main()
