"""The composition root: closes the stages over each other, one file of the run folder per stage.

Every stage asks for the values it needs, which brings earlier stages up to date first; a stage whose
file exists and was made from the same inputs is read back instead of done again. That is all there is
to resuming an interrupted run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

import onnx_ir as ir

from trt_mpq.artifacts.stages import Stages
from trt_mpq.artifacts.storage import RunFolder, write_text
from trt_mpq.emit import Refinements
from trt_mpq.emit.network import Network
from trt_mpq.evaluate.score_cache import CachedScore
from trt_mpq.evaluate.scorer import PlanEvaluator, Scorer
from trt_mpq.evaluate.verification import TypedFiles
from trt_mpq.groups.pins import pinned
from trt_mpq.latency.roofline import Latency
from trt_mpq.model import model_digest
from trt_mpq.pipeline.calibrating import MethodChoice, Networks
from trt_mpq.pipeline.correcting import Correcting
from trt_mpq.pipeline.delivering import Delivering
from trt_mpq.pipeline.handover import NETWORK, SAMPLES, CalibratedNetwork, write_network
from trt_mpq.pipeline.inputs import Choices, Data, environment
from trt_mpq.pipeline.keys import Keys
from trt_mpq.pipeline.ondevice import OnDevice
from trt_mpq.pipeline.problems import Sought
from trt_mpq.pipeline.rankings import Rankings
from trt_mpq.pipeline.refining import Refining
from trt_mpq.pipeline.scores import RunScores
from trt_mpq.pipeline.subject import State, Subject
from trt_mpq.pipeline.team import Team
from trt_mpq.refine.recovery import plan_record
from trt_mpq.report.data import Report, report_to_json
from trt_mpq.report.html import render_html
from trt_mpq.report.summary import Findings, summarize
from trt_mpq.search import Problem
from trt_mpq.search.ladders import problem_of
from trt_mpq.search.speculation import Asked
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.sensitivity.agreement import Sensitivities
from trt_mpq.settings import Settings
from trt_mpq.types import (
    Comparison,
    Grouping,
    Model,
    Precision,
    PrecisionPlan,
    Ranges,
    Ranking,
    RefinementRecord,
    Score,
    SearchResult,
)
from trt_mpq.types.engine import Deployment
from trt_mpq.types.observer import Observer, SilentObserver


def opened_by_worker(settings: Settings, folder: Path) -> Run:
    """The run in `folder`, to read from."""
    return Run(settings, folder, SilentObserver(), command=None)


class Run:
    """One model on its way to a mixed-precision plan.

    Args:
        settings: What the user asked for.
        folder: The run folder; created if absent.
        observer: Told what happens.
        command: The command line, for the record; None in a worker, which only reads what was done.

    Raises:
        TrtMpqError: The model or the folder cannot be used.
    """

    def __init__(self, settings: Settings, folder: Path, observer: Observer, command: str | None) -> None:
        self.settings, self.observer = settings, observer
        self._choices = Choices(settings)
        source = model_digest(settings.model)
        self._command = command or ""
        self.folder = RunFolder(folder, source, writable=command is not None)
        self.folder.describe(
            source=str(settings.model.resolve()), settings=settings.anchored().model_dump(mode="json"),
            command=self._command, seed=settings.seed, environment=environment(),
        )  # fmt: skip
        self._team = Team(settings, folder, opened_by_worker)
        self._stages = Stages(self.folder, observer)
        self._subject = Subject(settings, source, self._stages, self._choices.runtime)

    # What the command line offers, in the order of the flow.

    def inspect(self) -> Grouping:
        """Prepare the model and find its groups."""
        return self._networks.grouping(self._subject.final)

    def calibrate(self) -> Ranges:
        """Ranges of every tensor that a group quantizes."""
        return self._described.ranges

    def sensitivity(self) -> Ranking:
        """Sensitivity of every group to every candidate precision, by the metric that the search uses."""
        return self._rankings.first

    def sensitivities(self) -> Sensitivities:
        """The same by every metric that was asked for, and how well they agree."""
        return Sensitivities(self._rankings.all, self._rankings.agreement)

    def search(self) -> SearchResult:
        """The fastest plan found that keeps the accuracy target."""
        return self._delivering.searched.result

    def emit(self) -> PrecisionPlan:
        """Write the chosen plan as ONNX files, and check that the written file scores as the search said."""
        self._delivering.verified  # noqa: B018 - evaluated for its check
        return self._delivering.result.chosen.plan

    def compare(self) -> Comparison:
        """Polygraphy's comparison of the typed model with FP32."""
        return self._delivering.comparison

    def report(self) -> Report:
        """Everything above and the engine, as report.json and report.html.

        Raises:
            RuntimeFailure: An engine must be built (`engine.build` is "always") and this machine cannot.
        """
        if self.settings.engine.build == "always":
            self._device.require()
        report = summarize(self._findings())
        write_text(self.folder.path / "report.json", report_to_json(report))
        write_text(self.folder.path / "report.html", render_html(report))
        return report

    # What workers open.

    @property
    def sensitivity_inputs(self) -> SensitivityInputs:
        """What sensitivity metrics are given."""
        return self._rankings.inputs

    def measured(self, asked: Asked) -> CachedScore:
        """What a search asks of a plan, measured now whatever is known."""
        return self._evaluate.fresh(asked.plan, self._scores.stop if asked.judged else None)

    # The model and its data.

    @property
    def model(self) -> Model:
        """The model that plans are made of."""
        return self._subject.final.model

    @property
    def graph(self) -> ir.Model:
        """Its FP32 graph, in memory."""
        return self._subject.final.graph

    @property
    def _data(self) -> Data:
        return self._subject.data

    @cached_property
    def _keys(self) -> Keys:
        return Keys(self.settings, self._choices, self._data, self._subject.prepared)

    # Groups and ranges.

    @cached_property
    def _networks(self) -> Networks:
        return Networks(self.settings, self._choices, self._data, self._keys, self._stages)

    @cached_property
    def _methods(self) -> MethodChoice:
        return MethodChoice(
            self.settings, self._keys, self._stages, self._subject.final, self._networks, self._correcting, self._scores
        )

    @cached_property
    def _network(self) -> Network:
        return self._networks.calibrated(self._subject.final, self._methods.methods)

    @cached_property
    def grouping(self) -> Grouping:
        """The groups, with what calibration forbids and the user decided."""
        return pinned(self._network.grouping, self.settings.keep, self.settings.exclude)

    @cached_property
    def _described(self) -> CalibratedNetwork:
        """The network as it is handed to the device half."""
        network, data = self._network, self._data
        described = CalibratedNetwork(
            network.model, self._subject.prepared, network.grouping, network.ranges, data.batch, data.counted_batches,
            data.sample_shapes, self.settings.precisions, self.settings.mix_formats, self.settings.seed,
        )  # fmt: skip
        self._stages.files(
            "hand-over", self._keys.described(network), (NETWORK, SAMPLES),
            lambda _: write_network(described, data.evaluation, self.folder.path),
        )  # fmt: skip
        return described

    @cached_property
    def _device(self) -> OnDevice:
        return OnDevice(self.folder.path, self.settings.engine, self.observer, self._team.send)

    # Refinement.

    @cached_property
    def _correcting(self) -> Correcting:
        return Correcting(self._keys, self._stages, self._data.calibration, self._choices.runtime)

    @cached_property
    def _refining(self) -> Refining:
        return Refining(
            self.settings, self._keys, self._stages, self._network, self._data.calibration, self._choices.runtime,
            self._correcting, self._scores.uniform,
        )  # fmt: skip

    @cached_property
    def refinement(self) -> tuple[RefinementRecord, ...]:
        """What each refinement recovered of the score of every uniform plan, and of the chosen one."""
        uniform = (record for precision in self.settings.formats for record in self._refinements_of(precision))
        refined = self._delivering.refined
        return (*uniform, *([plan_record(self._found.chosen, refined)] if refined else []))

    def _refinements_of(self, precision: Precision) -> Iterator[RefinementRecord]:
        for change in self._subject.changes:
            before, after = (self._unrefined_score(precision, state) for state in (change.before, change.after))
            yield change.record(precision, before, after)
        yield from self._methods.records(precision)
        yield from self._refining.records(precision)

    def _unrefined_score(self, precision: Precision, state: State) -> float:
        network = self._networks.calibrated(state, self._methods.methods)
        return self._scores.uniform(precision, state.lacks or "as calibrated", network, Refinements())

    # Scores and latencies.

    @cached_property
    def _scores(self) -> RunScores:
        return RunScores(self.settings, self._choices, self._subject, self._keys, self._stages, self.observer)

    @property
    def scorer(self) -> Scorer:
        """Scores graphs on the evaluation data; fidelity metrics compare with the original model."""
        return self._scores.scorer

    @property
    def fp32(self) -> Score:
        """Score of the original model."""
        return self._scores.fp32

    @property
    def required(self) -> float:
        """The least score a plan must have."""
        return self._scores.required

    @cached_property
    def _evaluate(self) -> PlanEvaluator:
        """Scores the plans of the search."""
        return self._scores.evaluator(self._network, self._refining.kept)

    @cached_property
    def _files(self) -> TypedFiles:
        return self._scores.delivered(self._network, self._refining.kept)

    @cached_property
    def _latency(self) -> Latency:
        return self._device.latency(self.settings.latency, self._described, self._choices.target)

    @property
    def _search_key(self) -> str:
        return self._keys.search(self._network, self._latency.identity)

    # Ranking, search, delivery.

    @cached_property
    def _rankings(self) -> Rankings:
        return Rankings(
            self.settings, self._choices, self._data, self._keys, self._stages, lambda: self._network,
            self._team.elsewhere,
        )  # fmt: skip

    @cached_property
    def _problems(self) -> tuple[Problem, ...]:
        return Sought(
            required=self.required,  # asked first: a metric that does not work fails here
            settings=self.settings, grouping=self.grouping, parameters=self.model.parameters,
            ranking=self._rankings.first, evaluate=self._evaluate, judge=self._scores.judge(self._evaluate),
            delivered=self._files,
            seconds=partial(self._scores.seconds, self._evaluate), latency=self._latency,
            notify=self.observer.evaluated,
        ).problems()  # fmt: skip

    @cached_property
    def _found(self) -> SearchResult:
        problems = self._problems
        return self._stages.value(
            "search", self._search_key, "search.json", SearchResult,
            lambda _: self._team.search(self._choices.algorithm, problems, self._evaluate, self._scores.stop),
            title=f"Searching ({self.settings.search})",
        )  # fmt: skip

    @cached_property
    def _delivering(self) -> Delivering:
        found = self._found
        return Delivering(
            self.settings, self._keys, self._stages, self._subject, self._network, self._refining, self._scores,
            problem_of(found.chosen.plan, self._problems), found, self._search_key,
        )  # fmt: skip

    def _deployed(self) -> Deployment | None:
        searched = self._delivering.searched
        if self.settings.engine.build == "never" or not searched.result.chosen.plan.deployable:
            return None
        return self._device.deployment(self._described, searched, self.scorer.score_session)

    def _findings(self) -> Findings:
        delivering = self._delivering
        comparison, deployment = delivering.comparison, self._deployed()
        operators = {str(node.name): node.op_type for node in self.graph.graph}
        return Findings(
            settings=self.settings,
            model=self.model,
            grouping=self.grouping,
            followers={g.id: tuple(operators[name] for name in g.nodes[1:]) for g in self.grouping.groups},
            ranges=self._network.ranges,
            ranking=self._rankings.first,
            agreement=self._rankings.agreement,
            calibration_source=self._data.calibration.source,
            evaluation_samples=self._data.evaluation.count,
            result=delivering.result,
            fp32=self.fp32,
            typed=delivering.verified["typed"],
            required=self.required,
            metric=self._data.metric.name,
            latency=self._latency,
            target=self._choices.target,
            batch=self._data.batch,
            refinement=self.refinement,
            rescued=delivering.refined.rescued if delivering.refined else {},
            comparison=comparison,
            delivery=delivering.files,
            deployment=deployment,
            no_device=self._device.absence,
            search_seconds=self._search_seconds(),
            notes=self._data.notes(),
            environment=environment(),
            command=self._command,
        )

    def _search_seconds(self) -> float:
        plans = sum(self._scores.seconds(self._evaluate, tried.plan) for tried in self._found.path)
        files = sum(self._files.seconds(tried.plan) for tried in self._found.path if tried.delivered)
        return self.folder.seconds("sensitivity") + plans + files
