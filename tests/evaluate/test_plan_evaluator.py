"""Scores of plans and of their files, and plans that are judged by a part of the samples."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.scorers import Counting, Deciding, changed, random_portions, sentence_encoder, sentences
from tests.networks import mlp
from tests.prepared import RUNTIME, normal, prepare
from trt_mpq.emit import Refinements
from trt_mpq.evaluate.cache import ScoreCache
from trt_mpq.evaluate.metrics import metric_from_name
from trt_mpq.evaluate.plans import EarlyStop, PlanEvaluator
from trt_mpq.evaluate.scorer import Scorer
from trt_mpq.evaluate.stopping import paired_test, schedule_for
from trt_mpq.model import save_graph
from trt_mpq.types import Judgement, Precision, PrecisionPlan, Score

INT8, FP8, FP16 = Precision.INT8, Precision.FP8, Precision.FP16
PLAN = PrecisionPlan.of({"a": INT8, "b": FP16})


# Judging plans.


class Writing:
    """Writes one graph for every plan."""

    def __init__(self, graph: object) -> None:
        self._graph = graph

    def reference(self, plan: PrecisionPlan) -> object:
        return self._graph


def evaluator_of(graph: object, scorer: Scorer, path: Path, stop: EarlyStop | None) -> PlanEvaluator:
    return PlanEvaluator(lambda plan: Writing(graph), lambda plan: (), scorer, ScoreCache(path, "c"), stop)


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
