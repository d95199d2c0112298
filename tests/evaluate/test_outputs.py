"""What counts of networks whose outputs are ragged, single numbers, integers, or have another axis in front."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.networks import parsed
from tests.prepared import RUNTIME, normal
from trt_mpq.dataset import Samples, samples_from_arrays
from trt_mpq.errors import MetricError, SettingsError
from trt_mpq.evaluate.outputs import CountedOutputs, counted_outputs
from trt_mpq.graph.onnx_api import infer_shapes
from trt_mpq.types import TensorSpec

DETECTOR = """n (float[{batch}, 6] x) => (float[{batch}, 6] scores, int64[2, found] places, float[picked] values,
    int64[{batch}, 3] best, float mean, float[two, 3] halves, float[unknown, 6] turned, float[6, {batch}] across) {{
    logits = Mul (x, two)  scores = Sigmoid (logits)
    large = Greater (scores, half)  places = NonZero (large)  values = Compress (scores, mask)
    top, best = TopK (scores, three)  mean = ReduceMean <keepdims = 0> (scores)
    halves = Reshape (scores, by_three)  sizes = Shape (scores)  turned = Reshape (scores, sizes)
    across = Transpose (scores)
}}"""


def detector(batch: str) -> tuple[ir.Model, Samples]:
    constants = {
        "two": np.float32(2), "half": np.float32(0.5), "three": np.int64([3]), "by_three": np.int64([-1, 3]),
        "mask": np.array([True] * 5),
    }  # fmt: skip
    spec = TensorSpec("x", "float32", (int(batch) if batch.isdigit() else batch, 6))
    graph = ir.from_proto(parsed('<ir_version: 8, opset_import: ["":17]>' + DETECTOR.format(batch=batch), constants))
    infer_shapes(graph)
    return graph, samples_from_arrays({"x": normal(20, 6)}, (spec,))


def counted(batch: str, *asked: str, at_once: int = 4) -> CountedOutputs:
    graph, samples = detector(batch)
    return counted_outputs(graph, asked, samples, RUNTIME, at_once)


def test_outputs_with_an_entry_of_one_size_for_every_sample_count() -> None:
    found = counted("batch")
    assert found.specs == (
        TensorSpec("scores", "float32", ("batch", 6)),
        TensorSpec("halves", "float32", ("batch", 2, 3)),
        TensorSpec("turned", "float32", ("batch", 6)),
    )
    assert set(found.left_out) == {"places", "values", "best", "mean", "across"}
    assert found.left_out["best"].startswith("it holds integers")
    assert found.left_out["places"].startswith("its size depends on the data")


@pytest.mark.parametrize(("batch", "at_once"), [("1", 9), ("batch", 1)])
def test_where_samples_run_alone_single_numbers_are_theirs(batch: str, at_once: int) -> None:
    assert {"mean", "halves", "scores"} <= set(counted(batch, at_once=at_once).names)


def test_of_a_fixed_batch_the_rows_of_a_sample_count() -> None:
    assert counted("4").names == ("scores", "halves", "turned")


def test_tensors_that_are_asked_for() -> None:
    found = counted("batch", "best", "logits", "places")
    assert found.names == ("best", "logits")
    assert set(found.left_out) == {"places"}


def test_names_that_are_no_tensors_are_refused_with_close_ones() -> None:
    with pytest.raises(SettingsError, match="computes no tensor 'logit', close are logits"):
        counted("batch", "logit")
    with pytest.raises(SettingsError, match="no tensor 'x', close are"):
        counted("batch", "x")


def test_it_is_an_error_if_nothing_counts() -> None:
    with pytest.raises(MetricError, match=r"can be compared \(places: its size depends on the data.*--outputs"):
        counted("batch", "places")


def test_a_constant_is_given_and_not_compared() -> None:
    body = "n (float[batch, 2] x) => (float[batch, 2] y, float[2] two) { y = Mul (x, two) }"
    graph = ir.from_proto(parsed('<ir_version: 8, opset_import: ["":17]>' + body, {"two": np.float32([2, 2])}))
    infer_shapes(graph)
    samples = samples_from_arrays({"x": normal(4, 2)}, (TensorSpec("x", "float32", ("batch", 2)),))
    found = counted_outputs(graph, (), samples, RUNTIME, 2)
    assert found.names == ("y",)
    assert found.notes == ("two is not compared: it is a constant, which no precision changes",)
