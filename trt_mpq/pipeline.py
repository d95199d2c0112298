"""The composition root: closes the stages over each other, one file of the run folder per stage.

Every stage asks for the values it needs, which brings earlier stages up to date first; a stage whose
file exists and was made from the same inputs is read back instead of done again. That is all there is
to resuming an interrupted run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import onnx_ir as ir

from trt_mpq import __version__
from trt_mpq.calibrate import CalibrationInputs, calibrate, restrict_to_ranges
from trt_mpq.compare import compare_models
from trt_mpq.emit import BiasCorrections, Emitter
from trt_mpq.emit.deliver import FLAVOUR_FILES, Delivery, deliver
from trt_mpq.errors import RunFolderError, RuntimeFailure
from trt_mpq.evaluate import PlanEvaluator, ScoreCache, Scorer
from trt_mpq.groups import groups_from_model
from trt_mpq.inputs import Choices, Data, environment
from trt_mpq.latency import LatencyModel
from trt_mpq.model import load_graph, model_digest, prepare_model, save_graph
from trt_mpq.observer import Observer, Progress
from trt_mpq.refine.bias_correction import CorrectionInputs, correct_biases
from trt_mpq.refine.equalize import equalize
from trt_mpq.refine.storage import corrections_from_file, save_corrections
from trt_mpq.report.data import RefinementRecord, Report, report_to_json
from trt_mpq.report.html import render_html
from trt_mpq.search import Problem
from trt_mpq.search.ladders import ladders_of, merged
from trt_mpq.sensitivity import SensitivityInputs
from trt_mpq.settings import Settings
from trt_mpq.storage import RunFolder, from_json, key_of, read_manifest, sha256_of, to_json, write_text
from trt_mpq.summary import Findings, summarize
from trt_mpq.types import Comparison, Grouping, Model, Precision, PrecisionPlan, Ranges, Ranking, Score, SearchResult

T = TypeVar("T")
COMPARED_SAMPLES = 64
"""Samples that Polygraphy compares; the task score covers the whole evaluation set."""


def settings_of_run(folder: Path) -> dict[str, Any]:
    """The settings a run folder was last worked on with.

    Raises:
        RunFolderError: It is no run folder.
    """
    settings = read_manifest(folder).get("settings")
    if not isinstance(settings, dict):
        raise RunFolderError(f"{folder} is no run folder: make one with `trt-mpq inspect MODEL -o {folder}`")
    return settings


class Run:
    """One model on its way to a mixed-precision plan.

    Args:
        settings: What the user asked for.
        folder: The run folder; created if absent.
        observer: Told what happens.
        command: The command line, for the record.

    Raises:
        TrtMpqError: The model or the folder cannot be used.
    """

    def __init__(self, settings: Settings, folder: Path, observer: Observer, command: str) -> None:
        self.settings, self.observer = settings, observer
        self._choices = Choices(settings)
        self._source = model_digest(settings.model)
        self.folder = RunFolder(folder, self._source)
        self.folder.describe(
            source=str(settings.model.resolve()), settings=settings.model_dump(mode="json"), command=command,
            seed=settings.seed, environment=environment(),
        )  # fmt: skip
        self._command = command

    # Stages, in the order of the flow. The public methods are what the command line offers.

    def inspect(self) -> Grouping:
        """Prepare the model and find its groups."""
        return self._grouping

    def calibrate(self) -> Ranges:
        """Ranges of every tensor that a group quantizes."""
        return self._ranges

    def sensitivity(self) -> Ranking:
        """Sensitivity of every group to every candidate precision."""
        return self._ranking

    def search(self) -> SearchResult:
        """The fastest plan found that keeps the accuracy target."""
        return self._result

    def emit(self) -> PrecisionPlan:
        """Write the chosen plan as ONNX files, and check that the written file scores as the search said."""
        self._delivery  # noqa: B018 - evaluated for its files
        self._verified  # noqa: B018 - evaluated for its check
        return self._result.chosen.plan

    def compare(self) -> Comparison:
        """Polygraphy's comparison of the typed model with FP32."""
        self.emit()
        return self._comparison

    def report(self) -> Report:
        """Everything above, as report.json and report.html."""
        report = summarize(self._findings())
        write_text(self.folder.path / "report.json", report_to_json(report))
        write_text(self.folder.path / "report.html", render_html(report))
        return report

    @cached_property
    def model(self) -> Model:
        """The prepared model: checked, folded, equalized if asked for."""
        prepared = self._stage(
            "prepare", self._base_key, "model.json", Model,
            lambda _: prepare_model(self.settings.model, self._path("model.onnx")), others=("model.onnx", "model.onnx.data"),
        )  # fmt: skip
        return self._equalized(prepared) if self.settings.equalize else prepared

    @cached_property
    def _data(self) -> Data:
        return Data(self.settings, self.model)

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.graph, self._choices.runtime, self._data.evaluation, self._data.metric, self._data.batch)

    @cached_property
    def graph(self) -> ir.Model:
        """The prepared FP32 graph in memory."""
        return load_graph(self._path(self.model.path))

    @cached_property
    def _grouping(self) -> Grouping:
        return self._stage("group", self._group_key, "groups.json", Grouping, lambda _: self._group(self.graph))

    @cached_property
    def _ranges(self) -> Ranges:
        return self._stage(
            "calibrate", self._range_key, "ranges.json", Ranges,
            lambda progress: self._calibrate(self.graph, self._grouping, progress), title="Calibrating",
        )  # fmt: skip

    @cached_property
    def grouping(self) -> Grouping:
        """The groups, with what calibration forbids."""
        return restrict_to_ranges(self._grouping, self._ranges)

    @cached_property
    def _measured_corrections(self) -> BiasCorrections:
        if not self.settings.bias_correction:
            return {}
        path = self._path("corrections.npz")

        def compute(progress: Progress) -> None:
            plain = Emitter(self.graph, self.grouping, self._ranges)
            given = CorrectionInputs(
                self.graph, self.grouping, plain, self._data.calibration, self._choices.runtime, self._formats
            )
            save_corrections(path, correct_biases(given, progress))

        self._files("correct-biases", self._correction_key, (path.name,), compute, "Correcting biases")
        return corrections_from_file(path)

    @cached_property
    def refinement(self) -> tuple[RefinementRecord, ...]:
        """What each refinement recovered of every uniform plan's score."""
        return tuple(record for precision in self._formats for record in self._refinements_of(precision))

    @cached_property
    def emitter(self) -> Emitter:
        """Writes plans; bias corrections are kept for the precisions whose uniform plan they do not hurt."""
        dropped = {r.precision for r in self.refinement if r.name == "bias correction" and _hurt(r)}
        kept = {key: delta for key, delta in self._measured_corrections.items() if key[1] not in dropped}
        return Emitter(self.graph, self.grouping, self._ranges, kept)

    @cached_property
    def _ranking(self) -> Ranking:
        return self._stage(
            "sensitivity", self._ranking_key, "sensitivity.json", Ranking, self._rank,
            title=f"Sensitivity ({self.settings.sensitivity})",
        )  # fmt: skip

    @cached_property
    def _result(self) -> SearchResult:
        return self._stage("search", self._search_key, "search.json", SearchResult, lambda _: self._search())

    @cached_property
    def _delivery(self) -> Delivery:
        plan = self._result.chosen.plan
        return self._stage(
            "emit", self._emit_key, "delivery.json", Delivery, lambda _: deliver(self.emitter, plan, self.folder.path),
            others=FLAVOUR_FILES, title="Writing the plan",
        )  # fmt: skip

    @cached_property
    def _verified(self) -> dict[str, Score]:
        verified = self._stage(
            "verify", key_of(self._emit_key, self._evaluation_key), "verification.json", dict[str, Score], self._verify,
            title="Verifying the written files",
        )  # fmt: skip
        expected, delivered = self._result.chosen.score.value, verified["reference"].value
        if delivered != expected:
            raise RuntimeFailure(
                f"reference.onnx scores {delivered:.6g} and the search measured {expected:.6g} for the same plan: the "
                f"run folder is inconsistent, delete {self.folder.path} and run again"
            )
        return verified

    @cached_property
    def _comparison(self) -> Comparison:
        data = self._data.evaluation
        return self._stage(
            "compare", key_of(self._emit_key, data.fingerprint, COMPARED_SAMPLES), "comparison.json", Comparison,
            lambda _: compare_models(
                self._path(self.model.path), self._path("typed.onnx"), data, self._data.batch, COMPARED_SAMPLES
            ),
            title="Comparing with Polygraphy",
        )  # fmt: skip

    # How single stages do their work.

    def _group(self, graph: ir.Model) -> Grouping:
        return groups_from_model(graph, self._data.sample_shapes, exclusions=self.settings.exclusions)

    def _calibrate(self, graph: ir.Model, grouping: Grouping, progress: Progress) -> Ranges:
        given = CalibrationInputs(
            graph, grouping, self._data.calibration, self._choices.runtime, self.settings.calibration, self._formats,
            self._data.batch,
        )  # fmt: skip
        return calibrate(given, progress)

    def _equalized(self, prepared: Model) -> Model:
        def compute(_: Progress) -> Model:
            plain = load_graph(self._path(prepared.path))
            graph, pairs = equalize(plain, self._group(plain))
            self.observer.note(f"equalized {len(pairs)} pairs of layers")
            save_graph(graph, self._path("equalized.onnx"))
            return replace(prepared, path="equalized.onnx", sha256=sha256_of(self._path("equalized.onnx")))

        return self._stage(
            "equalize", key_of(self._base_key, self.settings.exclusions), "equalized.json", Model, compute,
            others=("equalized.onnx", "equalized.onnx.data"),
        )  # fmt: skip

    def _refinements_of(self, precision: Precision) -> list[RefinementRecord]:
        plan = PrecisionPlan.uniform(self.grouping.groups, precision, Precision.FP16)
        plain = Emitter(self.graph, self.grouping, self._ranges)
        records = []
        if not (self.settings.equalize or self.settings.bias_correction):
            return records
        before = self._evaluator(plain, "plain").timed(plan).score.value
        if self.settings.equalize:
            records.append(RefinementRecord("equalization", precision, self._unequalized(precision), before, ""))
        if self.settings.bias_correction:
            corrected = Emitter(self.graph, self.grouping, self._ranges, self._measured_corrections)
            after = self._evaluator(corrected, "corrected").timed(plan).score.value
            record = RefinementRecord("bias correction", precision, before, after, "")
            records.append(replace(record, detail="dropped: it lowers the score" if _hurt(record) else "kept"))
        return records

    def _unequalized(self, precision: Precision) -> float:
        """Score of the uniform plan of the model as it was before equalization."""
        graph = load_graph(self._path("model.onnx"))
        grouping = self._group(graph)

        def score() -> ir.Model:
            with self.observer.stage("Calibrating without equalization") as progress:
                ranges = self._calibrate(graph, grouping, progress)
            restricted = restrict_to_ranges(grouping, ranges)
            plan = PrecisionPlan.uniform(restricted.groups, precision, Precision.FP16)
            return Emitter(graph, restricted, ranges).reference(plan)

        plain = Emitter(self.graph, self.grouping, self._ranges)
        return self._evaluator(plain, "unequalized").remembered(f"uniform {precision}", score).score.value

    def _rank(self, progress: Progress) -> Ranking:
        given = SensitivityInputs(
            graph=self.graph, grouping=self.grouping, ranges=self._ranges, candidates=self._formats,
            samples=self._data.calibration, sample_limit=self.settings.sensitivity_samples, loss=self._data.loss,
            runtime=self._choices.runtime, batch=self._data.batch, seed=self.settings.seed,
        )  # fmt: skip
        return self._choices.sensitivity.rank(given, progress)

    def _search(self) -> SearchResult:
        evaluate = self._evaluator(self.emitter, self._kept_formats)
        problems = [
            Problem(self.grouping.groups, ladder, self._ranking, evaluate, self._latency.plan_ms, self.required,
                    self.observer.evaluated)
            for ladder in ladders_of(self.settings.precisions, self.settings.mix_formats)
        ]  # fmt: skip
        with self.observer.stage(f"Searching ({self.settings.search})"):
            return merged(self._choices.algorithm, problems)

    def _verify(self, progress: Progress) -> dict[str, Score]:
        names = ("reference", "typed")
        scores = {}
        for i, name in enumerate(names):
            scores[name] = self._scorer.score(self._path(f"{name}.onnx"))
            progress(i + 1, len(names))
        return scores

    def _findings(self) -> Findings:
        comparison = self.compare()
        calibration = self._data.calibration
        operators = {str(node.name): node.op_type for node in self.graph.graph}
        return Findings(
            settings=self.settings,
            model=self.model,
            grouping=self.grouping,
            followers={g.id: tuple(operators[name] for name in g.nodes[1:]) for g in self.grouping.groups},
            ranking=self._ranking,
            calibration_source=calibration.source,
            calibration_samples=calibration.count,
            evaluation_samples=self._data.evaluation.count,
            result=self._result,
            fp32=self.fp32,
            typed=self._verified["typed"],
            required=self.required,
            metric=self._data.metric.name,
            latency=self._latency,
            target=self._choices.target,
            batch=self._data.batch,
            refinement=self.refinement,
            comparison=comparison,
            delivery=self._delivery,
            search_seconds=self._search_seconds(),
            notes=self._data.notes(),
            environment=environment(),
            command=self._command,
        )

    # Scores.

    @cached_property
    def fp32(self) -> Score:
        """Score of the FP32 model."""
        with self.observer.stage("Scoring FP32"):
            return (
                self._evaluator(Emitter(self.graph, self.grouping, self._ranges), "plain")
                .remembered("fp32", lambda: self.graph)
                .score
            )

    @property
    def _latency(self) -> LatencyModel:
        return LatencyModel(self.grouping, self._choices.target, self._data.batch)

    @property
    def required(self) -> float:
        """The least score a plan must have."""
        return self.settings.target_accuracy * self.fp32.value

    def _evaluator(self, emitter: Emitter, refined: str) -> PlanEvaluator:
        cache = ScoreCache(self._path("evaluations.jsonl"), key_of(self._evaluation_key, refined))
        return PlanEvaluator(emitter.reference, self._scorer, cache)

    def _search_seconds(self) -> float:
        evaluate = self._evaluator(self.emitter, self._kept_formats)
        return self.folder.seconds("sensitivity") + sum(evaluate.timed(e.plan).seconds for e in self._result.path)

    @property
    def _kept_formats(self) -> str:
        return "corrected " + " ".join(sorted({p for r in self.refinement if not _hurt(r) for p in [r.precision]}))

    @property
    def _formats(self) -> tuple[Precision, ...]:
        return tuple(p for p in self.settings.precisions if p.quantized)

    # Keys: what each stage depends on.

    @property
    def _base_key(self) -> str:
        return key_of(__version__, self._source)

    @cached_property
    def _group_key(self) -> str:
        return key_of(self._base_key, self.model.sha256, self.settings.exclusions, self._data.sample_shapes)

    @cached_property
    def _range_key(self) -> str:
        return key_of(
            self._group_key, self._data.calibration.fingerprint, self.settings.calibration, self._formats,
            self._choices.runtime.name,
        )  # fmt: skip

    @cached_property
    def _correction_key(self) -> str:
        return key_of(self._range_key, self.settings.bias_correction)

    @cached_property
    def _evaluation_key(self) -> str:
        return key_of(self._correction_key, self._data.evaluation.fingerprint, self._data.metric.name, self._data.batch)

    @cached_property
    def _ranking_key(self) -> str:
        s = self.settings
        return key_of(
            self._range_key,
            s.sensitivity,
            s.sensitivity_samples,
            s.trials,
            s.noise_amplitude,
            s.seed,
            self._data.loss.name,
        )

    @cached_property
    def _search_key(self) -> str:
        s = self.settings
        return key_of(
            self._ranking_key, self._evaluation_key, s.search, s.precisions, s.mix_formats, s.target_accuracy,
            to_json(self._choices.target, type(self._choices.target)), self._data.batch,
        )  # fmt: skip

    @cached_property
    def _emit_key(self) -> str:
        return key_of(self._search_key, self._result.chosen.plan.digest)

    # Plumbing.

    def _path(self, name: str) -> Path:
        return self.folder.path / name

    def _stage(
        self, name: str, key: str, file: str, kind: type[T], compute: Callable[[Progress], T],
        others: tuple[str, ...] = (), title: str | None = None,
    ) -> T:  # fmt: skip
        def work(progress: Progress) -> None:
            write_text(self._path(file), to_json(compute(progress), kind))

        self._files(name, key, (file, *others), work, title)
        return from_json(self._path(file).read_bytes(), kind)

    def _files(
        self, name: str, key: str, files: tuple[str, ...], work: Callable[[Progress], None], title: str | None
    ) -> None:
        def compute() -> None:
            if title is None:
                work(lambda done, total: None)
                return
            with self.observer.stage(title) as progress:
                work(progress)

        self.folder.stage(name, key, files, compute)


def _hurt(record: RefinementRecord) -> bool:
    return record.after is not None and record.before is not None and record.after < record.before
