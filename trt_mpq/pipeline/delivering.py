"""From the plan that a search found to what is delivered: refined for itself, written, verified and compared."""

from __future__ import annotations

from functools import cached_property, partial

from trt_mpq.artifacts.stages import Stages
from trt_mpq.artifacts.storage import key_of
from trt_mpq.emit import Refinements
from trt_mpq.emit.deliver import FLAVOUR_FILES, Delivery, deliver
from trt_mpq.emit.network import Network
from trt_mpq.evaluate.compare import compare_models
from trt_mpq.evaluate.verification import delivered_scores, require_equal
from trt_mpq.pipeline.handover import SEARCHED, Searched
from trt_mpq.pipeline.keys import Keys
from trt_mpq.pipeline.refining import Refining
from trt_mpq.pipeline.scores import RunScores
from trt_mpq.pipeline.subject import Subject
from trt_mpq.refine.for_plan import Refined, with_chosen
from trt_mpq.search import Problem
from trt_mpq.settings import Settings
from trt_mpq.types import Comparison, Score, SearchResult

COMPARED_SAMPLES = 64
"""Samples that Polygraphy compares; the task score covers the whole evaluation set."""


class Delivering:
    """Delivers what a search found.

    Args:
        settings: What the user asked for.
        keys: Keys of the stages.
        stages: Keep what is computed here.
        subject: The model and its data.
        network: The model calibrated.
        refining: Refines it.
        scores: Scores its plans and their files.
        problem: What was searched where the plan was found.
        found: The outcome of the search.
        key: Key of the search.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        stages: Stages,
        subject: Subject,
        network: Network,
        refining: Refining,
        scores: RunScores,
        problem: Problem,
        found: SearchResult,
        key: str,
    ) -> None:
        self._settings, self._keys, self._stages, self._subject = settings, keys, stages, subject
        self._network, self._refining, self._scores = network, refining, scores
        self._problem, self._found = problem, found
        self._key = keys.result(key)

    @cached_property
    def refined(self) -> Refined | None:
        """What refinement for exactly the plan that was found came to; None if it is not wanted."""
        if not self._settings.refines_plan:
            return None
        scored = partial(self._scores.for_itself, self._network)
        return self._refining.for_plan(self._key, self._problem, self._found.chosen, scored)

    @cached_property
    def result(self) -> SearchResult:
        """The outcome of the search, with the plan to deliver as the chosen one."""
        return with_chosen(self._found, self.refined.chosen) if self.refined else self._found

    @cached_property
    def searched(self) -> Searched:
        """What the search hands to the device half."""
        scores, metric = self._scores, self._subject.data.metric.name
        return self._stages.value(
            "searched", key_of(self._key, scores.required), SEARCHED, Searched,
            lambda _: Searched.of(self.result, self._refinements, metric, scores.fp32, scores.required),
        )  # fmt: skip

    @cached_property
    def files(self) -> Delivery:
        """The plan as ONNX files."""
        plan, emitter = self.result.chosen.plan, self._network.emitter(self._refinements)
        return self._stages.value(
            "emit", self._files_key, "delivery.json", Delivery, lambda _: deliver(emitter, plan, self._stages.folder),
            others=FLAVOUR_FILES, title="Writing the plan",
        )  # fmt: skip

    @cached_property
    def verified(self) -> dict[str, Score]:
        """Scores of the files as they lie on disk; raises RuntimeFailure if they are not what the search measured."""
        self.files  # noqa: B018 - evaluated for what it writes
        scores, folder = self._scores, self._stages.folder
        typed = scores.delivered(self._network, self._refinements)
        verified = self._stages.value(
            "verify", self._files_key, "verification.json", dict[str, Score],
            lambda progress: delivered_scores(scores.scorer, typed, folder, progress), title="Verifying the files",
        )  # fmt: skip
        require_equal(verified, self.result.chosen.score, folder)
        return verified

    @cached_property
    def comparison(self) -> Comparison:
        """Polygraphy's comparison of the typed model, once it is verified, with FP32."""
        self.verified  # noqa: B018 - evaluated for its check
        data, path = self._subject.data, self._stages.path
        original, typed = path(self._subject.prepared.path), path("typed.onnx")
        return self._stages.value(
            "compare", self._keys.comparison(self._files_key, COMPARED_SAMPLES), "comparison.json", Comparison,
            lambda _: compare_models(original, typed, data.evaluation, data.batch, COMPARED_SAMPLES),
            title="Comparing with Polygraphy",
        )  # fmt: skip

    @cached_property
    def _refinements(self) -> Refinements:
        return self._refining.with_own(self.refined) if self.refined else self._refining.kept

    @property
    def _files_key(self) -> str:
        return self._keys.delivery(self._key, self.searched.result.chosen.plan)
