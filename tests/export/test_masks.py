"""Masks that hide by -inf or the most negative float hide by a number that float16 holds."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from trt_mpq.export.masks import _HIDDEN, soften_masks
from trt_mpq.runtime.onnxruntime import OnnxRuntime

HEADER = '<ir_version: 8, opset_import: ["": 17]>\nnet (float[2, 4] scores, int64[2, 4] mask) => (float[2, 4] out)\n'
HIDING = {
    "chosen": "{hidden = Equal(mask, zero) added = Where(hidden, low, none) sum = Add(scores, added)",
    "chosen among scores": "{hidden = Equal(mask, zero) sum = Where(hidden, low, scores)",
    "multiplied": "{hidden = Equal(mask, zero) one = Cast<to = 1>(hidden) add = Mul(one, low) sum = Add(scores, add)",
}


def graph_of(body: str, low: float) -> ir.Model:
    constants = f"<int64 zero = {{0}}, float none = {{0}}, float[1] low = {{{low}}}>\n"
    graph = ir.from_onnx_text(HEADER.rstrip() + "\n" + constants + body + "}")
    graph.graph.initializers["low"].const_value = ir.tensor(np.array([low], np.float32), name="low")
    return graph


def low_of(graph: ir.Model) -> float:
    tensor = graph.graph.initializers["low"].const_value
    assert tensor is not None
    return float(tensor.numpy()[0])


def feeds() -> dict[str, np.ndarray]:
    scores = np.random.default_rng(0).normal(0, 30, (2, 4)).astype(np.float32)
    return {"scores": scores, "mask": np.array([[1, 1, 0, 1], [1, 0, 0, 0]])}


@pytest.mark.parametrize("low", [float(np.finfo(np.float32).min), -1e35])
@pytest.mark.parametrize("form", HIDING)
def test_what_is_hidden_has_no_weight_as_before(form: str, low: float) -> None:
    graph = graph_of(HIDING[form] + " out = Softmax(sum)", low)
    before = OnnxRuntime().load(graph).run(feeds())["out"]
    soften_masks(graph.graph)
    assert low_of(graph) == _HIDDEN
    after = OnnxRuntime().load(graph).run(feeds())["out"]
    np.testing.assert_array_equal(after, before)
    assert (after[feeds()["mask"] == 0] == 0).all()


@pytest.mark.parametrize(
    "body",
    [
        HIDING["chosen"] + " out = Identity(sum)",
        HIDING["chosen"] + " weights = Softmax(sum) out = Max(weights, sum)",
        HIDING["chosen among scores"] + " best = ReduceMax<axes = [1]>(sum) less = Sub(sum, best) out = Softmax(less)",
        HIDING["chosen"] + " unused = Softmax(sum) out = Where(hidden, low, scores)",
    ],
    ids=["output", "compared", "greatest", "two uses"],
)
def test_what_others_see_stays(body: str) -> None:
    graph = graph_of(body, -1e35)
    soften_masks(graph.graph)
    assert low_of(graph) == np.float32(-1e35)


def test_numbers_of_a_network_stay() -> None:
    graph = graph_of(HIDING["chosen"] + " out = Softmax(sum)", -70000.0)
    soften_masks(graph.graph)
    assert low_of(graph) == -70000.0
