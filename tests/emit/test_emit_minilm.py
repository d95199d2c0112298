"""MiniLM on real sentences: uniform plans of all products and all attention, and the files that go to TensorRT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.groups.graphs import prepared, sample_shapes
from tests.prepared import RUNTIME
from trt_mpq.calibrate.ranges import calibrate
from trt_mpq.dataset import samples_from_arrays
from trt_mpq.emit import Emitter
from trt_mpq.groups import groups_from_model
from trt_mpq.lint import lint_graph
from trt_mpq.runtime.base import Arrays
from trt_mpq.types import Grouping, Precision, PrecisionPlan, TensorSpec

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
SENTENCES, TOKENS = 48, 32
pytestmark = pytest.mark.data


@dataclass(frozen=True)
class MiniLM:
    graph: ir.Model
    grouping: Grouping
    emitter: Emitter
    feeds: Arrays
    embeddings: np.ndarray

    def plan(self, precision: Precision, attention: bool = True) -> PrecisionPlan:
        plan = PrecisionPlan.uniform(self.grouping.groups, precision, FP16)
        return plan if attention else plan.replace({g.id: FP16 for g in self.grouping.groups if not g.weights})

    def cosines(self, graph: ir.Model) -> np.ndarray:
        found, exact = RUNTIME.load(graph).run(self.feeds)["embedding"], self.embeddings
        return np.sum(found * exact, axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)


@pytest.fixture(scope="module")
def minilm(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> MiniLM:
    graph = prepared(data_dir / "minilm" / "minilm_l6_v2.onnx", tmp_path_factory.mktemp("minilm"))
    grouping = groups_from_model(graph, sample_shapes(graph, TOKENS))
    with np.load(data_dir / "minilm" / "calib.npz") as stored:
        short = np.flatnonzero(stored["attention_mask"].sum(axis=1) <= TOKENS)[: 2 * SENTENCES]
        sentences = {name: stored[name][short, :TOKENS].astype(np.int64) for name in stored.files}
    specs = tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in sentences)
    samples = samples_from_arrays({name: values[:SENTENCES] for name, values in sentences.items()}, specs, None)
    (ranges,) = calibrate(graph, grouping, samples, RUNTIME, methods=("minmax",), formats=(INT8, FP8), batch=16)
    feeds = {name: values[SENTENCES:] for name, values in sentences.items()}
    embeddings = RUNTIME.load(graph).run(feeds)["embedding"]
    return MiniLM(graph, grouping, Emitter(graph, grouping, ranges), feeds, embeddings)


@pytest.mark.parametrize(
    ("precision", "attention", "mean"),
    [(FP16, True, 0.9999), (INT8, False, 0.97), (INT8, True, 0.97), (FP8, True, 0.995)],
)
def test_uniform_plans_keep_the_embeddings(precision: Precision, attention: bool, mean: float, minilm: MiniLM) -> None:
    cosines = minilm.cosines(minilm.emitter.reference(minilm.plan(precision, attention)))
    assert mean < cosines.mean() < 1 - 1e-7
    assert cosines.min() > mean - 0.05


@pytest.mark.parametrize(("flavour", "precision"), [("strong", INT8), ("strong", FP8), ("weak", INT8)])
def test_files_are_valid_break_no_rule_and_hold_every_product(
    flavour: str, precision: Precision, minilm: MiniLM
) -> None:
    graph = getattr(minilm.emitter, flavour)(minilm.plan(precision))
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)
    assert lint_graph(graph) == ()
    products = [node for node in graph.graph if node.op_type == "MatMul"]
    assert len(products) == 36 + 2 * 6
    for node in products:
        assert [value.producer().op_type for value in node.inputs] == ["DequantizeLinear"] * 2
    quantizers = [node for node in graph.graph if node.op_type == "QuantizeLinear" and node.inputs[0].producer()]
    assert len([node for node in quantizers if node.inputs[0].const_value is None]) == 6 * (1 + 4 + 3)
