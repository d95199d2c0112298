"""Intel Neural Compressor 2: accuracy-aware tuning, which falls back to FP32 operator by operator.

Version 3 has no ONNX quantization any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neural_compressor import PostTrainingQuantConfig, quantization
from neural_compressor.config import AccuracyCriterion, TuningCriterion
from task import Feeds, Task, session_of


class Loader:
    """Batches as the tuner wants them: pairs of feeds and a label, and how large they are."""

    def __init__(self, task: Task) -> None:
        self._task, self.batch_size = task, task.batch

    def __iter__(self) -> Iterator[tuple[Feeds, int]]:
        """Labels are not needed to calibrate."""
        return ((feeds, 0) for feeds in self._task.calibration_batches())


def main() -> None:
    """Tune with the default strategy and its default number of trials."""
    task = Task.from_command_line()

    def evaluate(model: Any) -> float:
        return task.evaluate(session_of(model))

    config = PostTrainingQuantConfig(
        approach="static",
        quant_format="QDQ",
        recipes={"graph_optimization_level": "ENABLE_BASIC"},  # the next one brings operators only ONNX Runtime has
        calibration_sampling_size=[len(next(iter(task.calibration.values())))],
        accuracy_criterion=AccuracyCriterion(criterion="relative", tolerable_loss=1 - task.target),
        tuning_criterion=TuningCriterion(timeout=0),
    )
    quantized = quantization.fit(str(task.model), config, calib_dataloader=Loader(task), eval_func=evaluate)
    if quantized is None:
        raise SystemExit("neural_compressor found no quantized model that meets the accuracy goal")
    task.deliver(quantized.model, packages=("neural-compressor", "onnxruntime"))


if __name__ == "__main__":
    main()
