"""AMD Quark: automatic mixed precision from INT8 towards INT16, layer by layer, until the score is close enough.

Quark has one data reader, for calibration and for the search. Where the calibration data has no labels to score, it
gets the evaluation data for both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quark.onnx import AutoMixprecisionConfig, ModelQuantizer, QConfig, QLayerConfig
from quark.onnx.quantization.config.spec import Int8Spec, Int16Spec, QuantGranularity
from task import RewindingReader, Task, session_of

PER_CHANNEL = QuantGranularity.Channel


def main() -> None:
    """Promote layers until the score on the reader's data is within the drop."""
    task = Task.from_command_line()
    data = task.labelled_calibration or task.labelled_evaluation

    def score(outputs: list[list[Any]]) -> float:
        return task.score(np.concatenate([batch[0] for batch in outputs]), data.labels)

    search = AutoMixprecisionConfig(
        target_layer_config=QLayerConfig(activation=Int16Spec(), weight=Int16Spec(quant_granularity=PER_CHANNEL)),
        data_size=-(-len(data.labels) * data.rows_per_sample // task.batch),  # batches: 0, "all", takes the first
        metric_evaluate_fn=score,
        metric_threshold=(1 - task.target) * task.evaluate(session_of(task.model), data),
        metric_optimize_object="quality",
    )
    layers = QLayerConfig(activation=Int8Spec(), weight=Int8Spec(quant_granularity=PER_CHANNEL))
    excluded = {None: ["Gather"]} if task.transformer else None  # tables in FP16: it writes invalid ONNX for them
    quantizer = ModelQuantizer(QConfig(global_config=layers, layer_type_config=excluded, algo_config=[search]))
    quantizer.quantize_model(str(task.model), str(task.delivered), RewindingReader(data.feeds, task.batch))
    note = f"calibrated and searched on the same {data.name} data, because it has one data reader"
    task.deliver(notes=(note,), packages=("amd-quark", "onnxruntime", "torch"))


if __name__ == "__main__":
    main()
