"""Scores of graphs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.evaluate.scorers import Counting, changed, random_portions, scorer_of, sentence_encoder, sentences
from tests.networks import mlp, residual_cnn
from tests.prepared import RUNTIME, normal, prepare
from tests.sensitivity.examples import fix_batch
from trt_mpq.dataset import open_samples
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.metrics.base import mean_metric
from trt_mpq.evaluate.metrics.user import user_metric
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.types import TensorSpec

STS_PAIRS, STS_SPEARMAN = 200, 0.936239  # by numpy alone, from the padded pairs


@pytest.mark.parametrize("batch", [1, 3, 7, 20, 64])
def test_top1_is_that_of_all_outputs_at_once(batch):
    prepared = prepare(residual_cnn())
    values = normal(20, 3, 16, 16)
    logits = RUNTIME.load(prepared.graph).run({"input": values})["output"]
    labels = np.where(np.arange(20) % 3 == 0, 0, logits.argmax(axis=1))
    score = scorer_of(prepared, prepared.samples(values, labels), "top1", batch).score(prepared.graph)
    assert score.value == pytest.approx(np.mean(logits.argmax(axis=1) == labels))
    assert score.samples == 20


@pytest.mark.parametrize("metric", ["sqnr", "cosine", "kl", "agreement"])
@pytest.mark.parametrize("batch", [3, 20])
def test_the_fp32_network_agrees_with_itself(metric, batch):
    prepared = prepare(mlp())
    samples = prepared.samples(normal(20, 32))
    assert scorer_of(prepared, samples, metric, batch).score(prepared.graph).value == 1.0


def test_a_fixed_batch_dimension_is_filled_and_the_filling_not_scored():
    free, fixed = prepare(residual_cnn()), prepare(fix_batch(residual_cnn(), 8))
    values = normal(21, 3, 16, 16)
    labels = np.arange(21) % 10
    scores = [
        scorer_of(prepared, prepared.samples(values, labels), "top1", 5).score(prepared.graph)
        for prepared in (free, fixed)
    ]
    assert scores[0] == scores[1]
    assert scores[1].samples == 21


@pytest.mark.parametrize(("kept_bytes", "reference_runs"), [(1 << 30, 1), (100, 3)])
def test_fp32_outputs_are_computed_once_unless_they_are_large(monkeypatch, kept_bytes, reference_runs):
    monkeypatch.setattr("trt_mpq.evaluate.scorer.CACHE_BYTES", kept_bytes)
    prepared = prepare(mlp())
    other = prepared.graph.clone()
    prepared.graph.graph.name, other.graph.name = "fp32", "other"
    samples, runtime = prepared.samples(normal(20, 32)), Counting()
    metric = metric_from_name("sqnr", has_labels=False, outputs=prepared.model.outputs)
    scorer = Scorer(prepared.graph, runtime, samples, metric, 6)
    assert [scorer.score(other).value for _ in range(3)] == [1.0, 1.0, 1.0]
    assert runtime.runs == {"fp32": 20 * reference_runs, "other": 60}


def test_progress_counts_samples():
    prepared = prepare(mlp())
    steps: list[tuple[int, int]] = []
    scorer = scorer_of(prepared, prepared.samples(normal(10, 32)), "cosine", 4)
    scorer.score(prepared.graph, lambda done, total: steps.append((done, total)))
    assert steps == [(4, 10), (8, 10), (10, 10)]


def test_outputs_without_a_batch_axis_reach_the_metric_as_they_are():
    proto = mlp()
    proto.graph.node[-1].output[0] = "features"
    proto.graph.node.append(onnx.helper.make_node("ReduceMean", ["features"], ["output"], name="mean", keepdims=0))
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    prepared = prepare(proto)
    seen: list[tuple[int, ...]] = []

    def score(outputs, labels, reference):
        seen.append(outputs["output"].shape)
        return np.ones(len(labels))

    metric = mean_metric("shapes", score, needs_labels=True)
    scorer_of(prepared, prepared.samples(normal(5, 32), np.arange(5)), metric, 2).score(prepared.graph)
    assert seen == [(), (), ()]


# Scoring padded sequences and pairs.


@pytest.mark.parametrize("metric", ["spearman", "pearson", "sqnr"])
@pytest.mark.parametrize("batch", [2, 7, 64])
def test_pairs_score_the_same_cut_or_not_and_in_any_batch(metric, batch):
    from scipy.stats import spearmanr

    prepared = prepare(sentence_encoder())
    gold = np.random.default_rng(2).normal(size=30)
    whole, cut = (sentences(prepared, gold, 2, trim) for trim in (None, "mask"))
    embeddings = RUNTIME.load(prepared.graph).run(next(whole.batches(30)).feeds)["positions_mean"].reshape(30, 2, 5)
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in embeddings.astype(np.float64)]
    named = metric_from_name(metric, has_labels=True, outputs=prepared.model.outputs, rows_per_sample=2)
    steps: list[tuple[int, int]] = []
    scorer = Scorer(prepared.graph, RUNTIME, cut, named, batch)
    scores = [
        scorer.score(prepared.graph, lambda done, total: steps.append((done, total))),
        scorer.score_session(RUNTIME.load(prepared.graph)),
        Scorer(prepared.graph, RUNTIME, whole, named, batch).score(prepared.graph),
    ]
    expected = {
        "spearman": spearmanr(cosines, gold).statistic,
        "pearson": np.corrcoef(cosines, gold)[0, 1],
        "sqnr": 1.0,
    }
    for score in scores:
        assert score.value == pytest.approx(expected[metric], abs=1e-6)
        assert score.samples == 30
    assert steps[-1] == (30, 30)
    assert sorted(steps) == steps


@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
def test_positions_score_the_same_cut_or_not(metric):
    prepared = prepare(sentence_encoder(per_position=True))
    named = metric_from_name(metric, has_labels=True, outputs=prepared.model.outputs)
    mask = next(sentences(prepared, np.arange(20), 1, None).batches(20)).feeds["mask"]
    labels = np.where(mask > 0, np.random.default_rng(3).integers(0, 5, mask.shape), -100)
    scores = [
        Scorer(prepared.graph, RUNTIME, sentences(prepared, labels, 1, trim), named, batch).score(prepared.graph)
        for trim, batch in ((None, 7), ("mask", 7), ("mask", 1), ("mask", 20))
    ]
    assert all(score.value == pytest.approx(scores[0].value, rel=1e-5) for score in scores)
    assert scores[1].value == pytest.approx(scores[2].value, rel=1e-6)


def test_fidelity_of_positions_does_not_depend_on_the_batch_where_padding_is_cut():
    prepared = prepare(sentence_encoder(per_position=True))
    other = prepared.graph.clone()
    weight = other.graph.initializers["first"]
    weight.const_value = ir.tensor(weight.const_value.numpy() * 1.1, name="first")
    metric = metric_from_name("sqnr", has_labels=False, outputs=prepared.model.outputs)
    samples = sentences(prepared, np.arange(20), 1, "mask")
    scores = [Scorer(prepared.graph, RUNTIME, samples, metric, batch).score(other).value for batch in (1, 5, 20)]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-6)
    assert 0 < scores[0] < 1


def test_the_users_function_sees_samples_in_their_order():
    prepared = prepare(sentence_encoder())
    seen: list[np.ndarray] = []

    def function(outputs, labels):
        seen.append(labels)
        return np.ones(len(labels))

    metric = user_metric("user", function)
    samples = sentences(prepared, np.arange(20), 1, "mask")
    assert Scorer(prepared.graph, RUNTIME, samples, metric, 3).score(prepared.graph).samples == 20
    assert seen[0].tolist() == list(range(20))


def test_fp32_outputs_are_kept_for_each_way_to_deliver_samples():
    prepared = prepare(sentence_encoder())
    prepared.graph.graph.name = "fp32"
    other = prepared.graph.clone()
    other.graph.name = "other"
    runtime = Counting()
    metric = metric_from_name("cosine", has_labels=False, outputs=prepared.model.outputs)
    scorer = Scorer(prepared.graph, runtime, sentences(prepared, np.arange(9), 1, "mask"), metric, 4)
    for _ in range(2):
        assert scorer.score(other).value == pytest.approx(1.0)
        assert scorer.score_session(runtime.load(other)).value == pytest.approx(1.0)
    assert runtime.runs == {"fp32": 18, "other": 36}


@pytest.mark.data
def test_minilm_on_sts_pairs(data_dir, monkeypatch):
    """The first dev pairs, cut to their length; all 1500 score 0.8672."""
    monkeypatch.setenv("TRT_MPQ_DATA", str(data_dir))
    graph = ir.load(data_dir / "minilm" / "minilm_l6_v2.onnx")
    inputs, outputs = (
        tuple(
            TensorSpec(v.name, v.dtype.numpy().name, tuple(d if isinstance(d, int) else str(d.value) for d in v.shape))
            for v in values
        )
        for values in (graph.graph.inputs, graph.graph.outputs)
    )
    samples = open_samples("minilm-sts:dev", inputs).take(STS_PAIRS)
    metric = metric_from_name("auto", has_labels=True, outputs=outputs, rows_per_sample=samples.rows)
    score = Scorer(graph, RUNTIME, samples, metric, 64).score(graph)
    assert metric.name == "spearman"
    assert score.samples == STS_PAIRS
    assert score.value == pytest.approx(STS_SPEARMAN, abs=2e-4)


# Scoring in portions.


@pytest.mark.parametrize("trim", [None, "mask"])
@pytest.mark.parametrize("metric", ["sqnr", "cosine", "spearman"])
def test_the_order_of_drawing_does_not_change_a_score(metric, trim):
    prepared = prepare(sentence_encoder())
    samples = sentences(prepared, np.random.default_rng(2).normal(size=60), 2, trim)
    named = metric_from_name(metric, has_labels=True, outputs=prepared.model.outputs, rows_per_sample=2)
    other = changed(prepared.graph)
    drawn, whole = (
        Scorer(prepared.graph, RUNTIME, samples, named, 8, schedule).score(other)
        for schedule in (random_portions(60), None)
    )
    assert drawn.value == pytest.approx(whole.value, rel=1e-6)
    assert (drawn.samples, whole.samples) == (60, 60)


def test_counts_are_exact_in_any_order_and_samples_keep_their_labels():
    prepared = prepare(mlp())
    values = normal(90, 32)
    labels = RUNTIME.load(prepared.graph).run({"input": values})["output"].argmax(axis=1)
    labels[:30] = (labels[:30] + 1) % 10
    metric = metric_from_name("top1", has_labels=True, outputs=prepared.model.outputs)
    schedule = random_portions(90)
    scorer = Scorer(prepared.graph, RUNTIME, prepared.samples(values, labels), metric, 4, schedule)
    scoring = scorer.finished(scorer.begun(), prepared.graph)
    right = (np.arange(90) >= 30).astype(float)
    assert scoring.result().value == right.mean()
    np.testing.assert_array_equal(scoring.in_data_order, right)
    np.testing.assert_array_equal(scoring.drawn, right[schedule.order])
