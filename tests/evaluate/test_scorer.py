"""Scores, and the file that remembers them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.networks import mlp, residual_cnn
from tests.prepared import RUNTIME, normal, prepare
from tests.sensitivity.examples import fix_batch
from trt_mpq.dataset import Samples, open_samples
from trt_mpq.dataset.samples import checked_samples
from trt_mpq.emit import Refinements
from trt_mpq.errors import RunFolderError
from trt_mpq.evaluate.cache import CachedScore, ScoreCache
from trt_mpq.evaluate.metrics import TaskMetric, metric_from_name
from trt_mpq.evaluate.metrics.base import mean_metric
from trt_mpq.evaluate.metrics.user import user_metric
from trt_mpq.evaluate.plans import EarlyStop, PlanEvaluator
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.evaluate.sequential import Schedule, growing_portions
from trt_mpq.evaluate.stopping import paired_test, schedule_for
from trt_mpq.model import save_graph
from trt_mpq.types import Judgement, Precision, PrecisionPlan, Score, TensorSpec

INT8, FP8, FP16 = Precision.INT8, Precision.FP8, Precision.FP16
STS_PAIRS, STS_SPEARMAN = 200, 0.936239  # by numpy alone, from the padded pairs
SCORED = CachedScore(Score(0.5, 0.01, 100), 1.25)


# The cache.


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "evaluations.jsonl"


def test_a_score_is_remembered_on_disk(path):
    ScoreCache(path, "context").put("plan", SCORED)
    assert ScoreCache(path, "context").get("plan") == SCORED
    assert ScoreCache(path, "context").get("other plan") is None


def test_every_bit_of_a_score_is_kept(path):
    score = Score(1 / 3, None, 7)
    ScoreCache(path, "c").put("plan", CachedScore(score, 0.1))
    assert ScoreCache(path, "c").get("plan").score == score


def test_contexts_do_not_see_each_other(path):
    ScoreCache(path, "a").put("plan", SCORED)
    other = CachedScore(Score(0.9, None, 5), 2.0)
    ScoreCache(path, "b").put("plan", other)
    assert ScoreCache(path, "a").get("plan") == SCORED
    assert ScoreCache(path, "b").get("plan") == other
    assert ScoreCache(path, "c").get("plan") is None


@pytest.mark.parametrize("kept", range(1, 30, 4))
def test_a_line_cut_short_loses_that_line_only(path, kept):
    cache = ScoreCache(path, "c")
    cache.put("one", SCORED)
    whole = path.read_bytes()
    cache.put("two", SCORED)
    path.write_bytes(path.read_bytes()[: len(whole) + kept])

    resumed = ScoreCache(path, "c")
    assert resumed.get("one") == SCORED
    assert resumed.get("two") is None
    resumed.put("three", SCORED)
    again = ScoreCache(path, "c")
    assert [again.get(plan) for plan in ("one", "two", "three")] == [SCORED, None, SCORED]


@pytest.mark.parametrize("line", [b"12", b"null", b"{}", b'["c"]', b"\xff\xfe", b'["c", "p", 1, 2, 3, 4, 5]', b""])
def test_foreign_lines_are_ignored(path, line):
    path.write_bytes(line + b"\n")
    cache = ScoreCache(path, "c")
    cache.put("plan", SCORED)
    assert ScoreCache(path, "c").get("plan") == SCORED


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    cache = ScoreCache(tmp_path / "absent" / "evaluations.jsonl", "c")
    with pytest.raises(RunFolderError, match=r"cannot write .*evaluations.jsonl \(No such file or directory\)"):
        cache.put("plan", SCORED)
    assert cache.get("plan") is None, "what is not on disk would be lost on resume"


def test_a_known_score_is_not_measured_again(path):
    calls: list[str] = []

    def measure() -> Score:
        calls.append("measured")
        return Score(0.25, None, 4)

    first = ScoreCache(path, "c").remember("plan", measure)
    second = ScoreCache(path, "c").remember("plan", measure)
    assert calls == ["measured"]
    assert first.score == second.score == Score(0.25, None, 4)
    assert second.seconds >= 0


def test_an_interrupted_measurement_is_not_remembered(path):
    def interrupt() -> Score:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ScoreCache(path, "c").remember("plan", interrupt)
    assert not path.exists()


# Scoring graphs.


def scorer_of(prepared, samples, metric: str | TaskMetric, batch: int) -> Scorer:
    if isinstance(metric, str):
        metric = metric_from_name(metric, has_labels=samples.has_labels, outputs=prepared.model.outputs)
    return Scorer(prepared.graph, RUNTIME, samples, metric, batch)


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


def random_portions(count: int, multiple: int = 4) -> Schedule:
    return growing_portions(count, 5, first=8, growth=0.5, multiple=multiple)


def changed(graph: ir.Model, weight: str = "first") -> ir.Model:
    other = graph.clone()
    value = other.graph.initializers[weight]
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.3), name=weight)
    return other


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


class Writing:
    """Writes one graph for every plan."""

    def __init__(self, graph: object) -> None:
        self._graph = graph

    def reference(self, plan: PrecisionPlan) -> object:
        return self._graph


def evaluator_of(graph: object, scorer: Scorer, path: Path, stop: EarlyStop | None) -> PlanEvaluator:
    return PlanEvaluator(lambda plan: Writing(graph), lambda plan: (), scorer, ScoreCache(path, "c"), stop)


class Deciding:
    """A test that says `verdict` as soon as it has seen `enough` samples, and keeps what it was shown."""

    def __init__(self, enough: int, verdict: bool = True) -> None:
        self.enough, self.verdict, self.seen = enough, verdict, []

    def decide(self, plan: np.ndarray) -> bool | None:
        self.seen.append(plan)
        return self.verdict if len(plan) >= self.enough else None

    def estimate(self, plan: np.ndarray) -> Score:
        return Score(0.75, 0.01, len(plan))


@pytest.fixture
def judging(path):
    """Makes an evaluator of the network on 40 samples that stops so, and what counts the samples it ran."""
    prepared = prepare(mlp())
    prepared.graph.graph.name, runtime = "fp32", Counting()
    other = prepared.graph.clone()
    other.graph.name = "other"
    metric = metric_from_name("sqnr", has_labels=False, outputs=prepared.model.outputs)

    def make(stop: EarlyStop | None, path: Path = path) -> tuple[PlanEvaluator, Counting]:
        scorer = Scorer(prepared.graph, runtime, prepared.samples(normal(40, 32)), metric, 4, random_portions(40))
        return evaluator_of(other, scorer, path, stop), runtime

    return make


def test_a_judged_plan_runs_no_further_than_the_test_needs_and_goes_on_from_there(judging):
    test = Deciding(12)
    evaluator, runtime = judging(EarlyStop(test, 0.5, "question"))
    judgement = evaluator.judge(PLAN)
    assert evaluator.stops_early
    assert judgement == Judgement(Score(0.75, 0.01, 12), True, complete=False)
    assert [len(seen) for seen in test.seen] == [8, 12]
    assert runtime.runs == {"fp32": 12, "other": 12}, "and FP32 no further than the plan"
    assert evaluator.score(PLAN).samples == 40
    assert runtime.runs == {"fp32": 40, "other": 40}, "no sample runs twice"


def test_the_samples_of_a_plan_are_kept_however_it_came_to_run_them_all(judging, tmp_path):
    """Or the file that holds its graph would be run once more."""
    for question, stop in enumerate((None, EarlyStop(Deciding(41), 0.5, "q"), EarlyStop(Deciding(12), 0.5, "q"))):
        evaluator, _ = judging(stop, tmp_path / f"{question}.jsonl")
        assert evaluator.samples(PLAN) is None
        if stop:
            evaluator.judge(PLAN)
        assert evaluator.score(PLAN).samples == 40
        np.testing.assert_array_equal(evaluator.samples(PLAN), np.ones(40))


def test_an_undecided_plan_is_measured_and_the_score_decides(judging):
    for required, feasible in ((0.5, True), (1.5, False)):
        evaluator, runtime = judging(EarlyStop(Deciding(41), required, "question"))
        judgement = evaluator.judge(PLAN)
        assert (judgement.score, judgement.feasible, judgement.complete) == (Score(1.0, 0.0, 40), feasible, True)
    assert runtime.runs["other"] == 40


def test_a_judgement_is_remembered_on_disk_for_its_question(judging):
    asked = EarlyStop(Deciding(12, verdict=False), 0.5, "question")
    first = judging(asked)[0].judge(PLAN)
    evaluator, runtime = judging(asked)
    before = dict(runtime.runs)
    assert evaluator.judge(PLAN) == first
    assert runtime.runs == before
    assert evaluator.seconds(PLAN) > 0 == judging(None)[0].seconds(PLAN)
    other = judging(EarlyStop(Deciding(18), 0.5, "other question"))[0].judge(PLAN)
    assert (other.score.samples, other.feasible) == (20, True)


def test_a_search_that_is_resumed_hears_the_judgement_again_though_the_plan_was_measured_since(judging):
    asked = EarlyStop(Deciding(12, verdict=False), 0.5, "question")
    evaluator, _ = judging(asked)
    first = evaluator.judge(PLAN)
    assert evaluator.score(PLAN).value >= 0.5
    assert judging(asked)[0].judge(PLAN) == first
    assert judging(replace(asked, identity="new"))[0].judge(PLAN).complete, "a known score needs no test"


@pytest.mark.parametrize(("share", "keeps"), [(0.5, True), (1.5, False)])
def test_pairs_of_sequences_are_judged_by_the_test_of_their_metric(path, share, keeps):
    prepared = prepare(sentence_encoder())
    gold = np.random.default_rng(2).normal(size=700)
    metric = metric_from_name("spearman", has_labels=True, outputs=prepared.model.outputs, rows_per_sample=2)
    plain = sentences(prepared, gold, 2, "mask")
    embeddings = RUNTIME.load(prepared.graph).run(next(plain.uncut().batches(700)).feeds)["positions_mean"]
    first, second = embeddings.reshape(700, 2, 5).transpose(1, 0, 2).astype(np.float64)
    cosines = np.sum(first * second, axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    samples = sentences(prepared, cosines + 0.2 * gold, 2, "mask")
    schedule = schedule_for(metric, samples, 32, 0.999, 0)
    scorer = Scorer(prepared.graph, RUNTIME, samples, metric, 32, schedule)
    fp32 = scorer.finished(scorer.begun(), prepared.graph)
    required = share * fp32.result().value
    test = paired_test(metric, schedule, fp32.in_data_order, required, 0.999)
    evaluator = evaluator_of(changed(prepared.graph), scorer, path, EarlyStop(test, required, "question"))
    judgement = evaluator.judge(PLAN)
    assert (judgement.feasible, judgement.complete, judgement.score.samples) == (keeps, False, 256)
    assert judgement.score.value == pytest.approx(evaluator.score(PLAN).value, abs=4 * judgement.score.stderr)


# Scoring plans.


class FakeScorer:
    def __init__(self) -> None:
        self.scored: list[object] = []

    def begun(self) -> FakeScorer:
        return self

    def finished(self, scoring, graph, progress=None) -> FakeScorer:
        self.scored.append(graph)
        return self

    in_data_order = None
    """It keeps nothing of single samples."""

    def result(self) -> Score:
        return Score(float(len(self.scored)), None, 10)


def evaluator(path: Path, corrected: set[Precision]) -> tuple[PlanEvaluator, FakeScorer]:
    scorer = FakeScorer()
    cache = ScoreCache(path, "c")
    refinements = Refinements({("a", precision): np.zeros(1, np.float32) for precision in corrected})
    return PlanEvaluator(Writing, refinements.marks, scorer, cache), scorer


PLAN = PrecisionPlan.of({"a": INT8, "b": FP16})


def test_a_plan_is_scored_once_per_folder(path):
    first, scorer = evaluator(path, set())
    assert first.score(PLAN) == first.score(PLAN)
    assert scorer.scored == [PLAN]
    second, other = evaluator(path, set())
    assert second.score(PLAN) == first.score(PLAN)
    assert other.scored == []


@pytest.mark.parametrize(("corrected", "new"), [({INT8}, 1), ({INT8, FP8}, 1), ({FP8}, 0), (set(), 0)])
def test_corrections_count_only_for_plans_that_use_them(path, corrected, new):
    evaluator(path, set())[0].score(PLAN)
    other, scorer = evaluator(path, corrected)
    other.score(PLAN)
    assert len(scorer.scored) == new


def test_which_corrections_a_plan_gets_is_part_of_its_key(path):
    mixed = replace(PLAN, assignments=(("a", INT8), ("b", FP8)))
    scores = [evaluator(path, corrected)[0] for corrected in ({INT8}, {FP8}, {INT8, FP8})]
    scorers = [evaluator(path, corrected) for corrected in ({INT8}, {FP8}, {INT8, FP8})]
    for own, scorer in scorers:
        own.score(mixed)
        assert len(scorer.scored) == 1
    assert all(own.score(mixed) for own in scores)


def test_a_stage_is_shown_only_while_something_is_measured(path):
    shown: list[str] = []

    @contextmanager
    def stage():
        shown.append("begin")
        yield None
        shown.append("end")

    own, _ = evaluator(path, set())
    own.score(PLAN, stage)
    own.score(PLAN, stage)
    assert shown == ["begin", "end"]


def test_the_file_is_one_json_line_per_score(path):
    evaluator(path, {INT8})[0].score(PLAN)
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)[:3] == ["c", f"{PLAN.digest} int8", 1.0]


# Scoring files.


def test_a_file_is_known_by_its_content_before_it_is_written(path, tmp_path):
    """What a search scores in memory is what lies on disk afterwards."""
    prepared, values = prepare(mlp()), normal(20, 32)
    network, runtime = prepared.network(prepared.samples(values)), Counting()
    plan = network.grouping.uniform(INT8)
    metric = metric_from_name("sqnr", has_labels=False, outputs=prepared.model.outputs)
    scorer = Scorer(prepared.graph, runtime, prepared.samples(values), metric, 8)

    def evaluator() -> PlanEvaluator:
        return PlanEvaluator.of(network, Refinements(), scorer, ScoreCache(path, "c"))

    first = evaluator()
    assert first.delivered_seconds(plan) == 0
    score = first.delivered(plan)
    ran = dict(runtime.runs)
    save_graph(network.emitter().strong(plan), tmp_path / "typed.onnx")
    assert evaluator().on_disk(tmp_path / "typed.onnx") == evaluator().delivered(plan) == score
    assert evaluator().delivered_seconds(plan) == first.delivered_seconds(plan) > 0 == first.seconds(plan)
    assert runtime.runs == ran
    save_graph(network.emitter().strong(network.grouping.uniform(FP8)), tmp_path / "typed.onnx")
    assert evaluator().on_disk(tmp_path / "typed.onnx") != score


def test_a_file_is_scored_on_every_sample_as_its_plan_is(path):
    """Rows by which the two runtimes may differ are where a target of 0.999 is kept or missed."""
    prepared, values = prepare(mlp()), normal(600, 32)
    labels = np.arange(600) % 10
    data = prepared.samples(values, labels)
    network, runtime = prepared.network(data.take(8)), Counting()
    plan = network.grouping.uniform(INT8)
    metric = metric_from_name("top1", has_labels=True, outputs=prepared.model.outputs)
    scorer = Scorer(prepared.graph, runtime, data, metric, 8)
    file = PlanEvaluator.of(network, Refinements(), scorer, ScoreCache(path, "c")).delivered(plan)
    assert sum(runtime.runs.values()) == 600, "the plan is not run beside it"
    logits = RUNTIME.load(network.emitter().strong(plan)).run({"input": values})["output"]
    assert file.samples == 600
    assert file.value == pytest.approx((logits.argmax(axis=1) == labels).mean())
