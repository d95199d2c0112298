"""NNCF: `quantize_with_accuracy_control`, which gives operations their precision back until the drop is small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import nncf
import onnx
from task import Array, Feeds, Task, gathered, session_of


def main() -> None:
    """Calibrate one row at a time, as NNCF counts `subset_size` in items of its data set."""
    task = Task.from_command_line()
    rows = list(task.calibration_batches(1))

    def validate(model: Any, samples: Iterable[tuple[Feeds, Array]]) -> float:
        return task.evaluate(session_of(model), gathered(samples))

    quantized = nncf.quantize_with_accuracy_control(
        onnx.load(task.model),
        calibration_dataset=nncf.Dataset(rows),
        validation_dataset=nncf.Dataset(list(task.evaluation_samples())),
        validation_fn=validate,
        max_drop=1 - task.target,
        drop_type=nncf.DropType.RELATIVE,
        subset_size=len(rows),
        model_type=nncf.ModelType.TRANSFORMER if task.transformer else None,
    )
    task.deliver(quantized, packages=("nncf", "onnxruntime"))


if __name__ == "__main__":
    main()
