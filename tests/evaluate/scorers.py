"""Networks and data to score, runtimes that count and tests that decide."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from tests.prepared import RUNTIME
from trt_mpq.dataset import Samples
from trt_mpq.dataset.samples import checked_samples
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.evaluate.sequential import Schedule, growing_portions
from trt_mpq.types import Score


def scorer_of(prepared, samples, metric: str | TaskMetric, batch: int) -> Scorer:
    if isinstance(metric, str):
        metric = metric_from_name(metric, has_labels=samples.has_labels, outputs=prepared.model.outputs)
    return Scorer(prepared.graph, RUNTIME, samples, metric, batch)


class Counting:
    """A runtime that counts the samples run through each graph."""

    name, ways = "counting", 1

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}

    def load(self, graph, outputs=(), ways=1):
        counting, session = self, RUNTIME.load(graph, outputs)
        key = graph.graph.name if isinstance(graph, ir.Model) else graph.name

        class Session:
            output_names = session.output_names

            def run(self, feeds):
                counting.runs[key] = counting.runs.get(key, 0) + len(next(iter(feeds.values())))
                return session.run(feeds)

        return Session()


def sentence_encoder(per_position: bool = False) -> onnx.ModelProto:
    """Token embeddings through two layers: class scores `per_position`, or their mean over the real positions."""
    random = np.random.default_rng(0)
    weights = {
        "table": random.normal(size=(50, 8)),
        "first": random.normal(size=(8, 8)),
        "second": random.normal(size=(8, 5)),
    }
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["words"], name="words"),
        onnx.helper.make_node("MatMul", ["words", "first"], ["hidden"], name="hidden"),
        onnx.helper.make_node("Tanh", ["hidden"], ["bent"], name="bent"),
        onnx.helper.make_node("MatMul", ["bent", "second"], ["positions"], name="positions"),
    ]
    shape: list[str | int] = ["batch", "seq", 5]
    if not per_position:
        shape = ["batch", 5]
        nodes += [
            onnx.helper.make_node("Cast", ["mask"], ["real"], name="real", to=1),
            onnx.helper.make_node("Unsqueeze", ["real", "last"], ["column"], name="column"),
            onnx.helper.make_node("Mul", ["positions", "column"], ["kept"], name="kept"),
            onnx.helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], name="sum", keepdims=0),
            onnx.helper.make_node("ReduceSum", ["real", "middle"], ["count"], name="count", keepdims=1),
            onnx.helper.make_node("Div", ["sum", "count"], ["positions_mean"], name="mean"),
        ]
    tokens = [onnx.helper.make_tensor_value_info(name, 7, ["batch", "seq"]) for name in ("ids", "mask")]
    constants = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants += [onnx.numpy_helper.from_array(np.array([axis]), name) for name, axis in (("last", -1), ("middle", 1))]
    output = onnx.helper.make_tensor_value_info(nodes[-1].output[0], 1, shape)
    graph = onnx.helper.make_graph(nodes, "encoder", tokens, [output], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def sentences(prepared, labels: np.ndarray, rows: int, trim: str | None) -> Samples:
    random = np.random.default_rng(1)
    lengths = random.integers(1, 10, len(labels) * rows)
    mask = (np.arange(12) < lengths[:, None]).astype(np.uint8)
    ids = random.integers(1, 50, mask.shape).astype(np.int32) * mask
    columns = {"ids": ids, "mask": mask}
    return checked_samples(columns, prepared.model.inputs, labels, "data", "", rows=rows, trim=trim)


def random_portions(count: int, multiple: int = 4) -> Schedule:
    return growing_portions(count, 5, first=8, growth=0.5, multiple=multiple)


def changed(graph: ir.Model, weight: str = "first") -> ir.Model:
    other = graph.clone()
    value = other.graph.initializers[weight]
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.3), name=weight)
    return other


class Deciding:
    """A test that says `verdict` as soon as it has seen `enough` samples, and keeps what it was shown."""

    def __init__(self, enough: int, verdict: bool = True) -> None:
        self.enough, self.verdict, self.seen = enough, verdict, []

    def decide(self, plan: np.ndarray) -> bool | None:
        self.seen.append(plan)
        return self.verdict if len(plan) >= self.enough else None

    def estimate(self, plan: np.ndarray) -> Score:
        return Score(0.75, 0.01, len(plan))
