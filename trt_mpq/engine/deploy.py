"""From a searched run to the engine that is shipped: build, score, time in turns, decide, verify.

The plan of the search, the fastest other feasible plans it saw and the uniform baselines are all built, scored through
their engines where there is evaluation data, and timed in one session. What is shipped is the fastest that keeps the
target and beats the network in its high precision, the baseline, by more than the noise; or the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from trt_mpq.engine.decide import PLAN, decide
from trt_mpq.engine.profile.trtexec import trtexec_command
from trt_mpq.engine.realised import realise
from trt_mpq.engine.shipping import ENGINE_FOLDER, NETWORK_FILE, ship
from trt_mpq.engine.timing import BuiltEngines
from trt_mpq.evaluate.compare import compare_models
from trt_mpq.runtime.base import Session
from trt_mpq.types import Evaluation, Grouping, Precision, PrecisionPlan, Score, SearchResult
from trt_mpq.types.engine import Candidate, Deployment, SideBySide

_RUNNERS_UP = 2
"""Further feasible plans that are built beside the chosen one and the uniform ones."""
_NOT_SCORED = (
    "the task score through the engine was not measured: no evaluation data is here, or it is a score of tensors that "
    "an engine does not give"
)


@dataclass(frozen=True)
class EngineScorer:
    """Gives the task score of an engine.

    Attributes:
        identity: What tells its data and metric from others.
        score: From a session to its score.
        required: From the least score on the data of the search to that on its own.
    """

    identity: str
    score: Callable[[Session], Score]
    required: Callable[[float], float] = float


@dataclass(frozen=True)
class Requirements:
    """What an engine has to live up to.

    Attributes:
        score: Least task score; None where no accuracy is required.
        snr_db: What outputs need to pass the comparison with FP32, see `compare_models`.
        comparison: Whether an engine may be shipped only if all of them pass.
    """

    score: float | None
    snr_db: Mapping[str, float]
    comparison: bool


def deploy(
    engines: BuiltEngines,
    candidates: tuple[Candidate, ...],
    constraints: Mapping[str, Mapping[str, Precision]],
    scorer: EngineScorer | None,
    requirements: Requirements,
) -> Deployment:
    """Score, time and verify `candidates`, which were built; the one that is shipped goes into the folder `engine`.

    Args:
        engines: Where they lie.
        candidates: What was built, see `candidates_of`.
        constraints: Name of a candidate to the precision of the nodes that its builder was told one for.
        scorer: Scores engines; None without evaluation data.
        requirements: What an engine must be like to be shipped.

    Raises:
        RunFolderError: A file cannot be written.
        RuntimeFailure: An engine that was built cannot be run.
    """
    required = requirements.score
    if scorer is not None and required is not None:
        required = scorer.required(required)
    judged = tuple(_judged(engines, candidate, scorer, required) for candidate in candidates)
    built = {candidate.name: candidate.build for candidate in judged if candidate.build.built}
    baseline = engines.described.grouping.top.value
    timing = engines.time(built, _compared_with(judged, baseline)) if built else None
    decision = decide(judged, timing, engines.options.margin, baseline)
    notes = (*_timing_notes(timing), *([] if scorer else [_NOT_SCORED]))
    undelivered = Deployment(engines.platform, engines.described.batch, judged, timing, decision, notes=notes)
    if undelivered.shipped is None:
        return undelivered
    compared = _compared(engines, undelivered, undelivered.shipped, requirements)
    if compared.shipped is None:
        return compared
    return _delivered(engines, compared, compared.shipped, constraints[compared.shipped.name])


def _judged(
    engines: BuiltEngines, candidate: Candidate, scorer: EngineScorer | None, required: float | None
) -> Candidate:
    """`candidate` with the score through its engine, if there is one and evaluation data to measure it."""
    if scorer is None or not candidate.build.built:
        return candidate
    with (
        engines.observer.stage(f"Scoring the {candidate.name} engine"),
        engines.loaded({candidate.name: candidate.build}) as loaded,
        loaded[candidate.name].session() as session,
    ):
        score = scorer.score(session)
    return replace(candidate, score=score, feasible=candidate.feasible if required is None else score.value >= required)


def _compared_with(candidates: tuple[Candidate, ...], baseline: str) -> list[str]:
    """The built engines that others may be compared with: the baseline, or without it the best of all."""
    built = [candidate for candidate in candidates if candidate.build.built]
    if any(candidate.name == baseline for candidate in built):
        return [baseline]
    return [candidate.name for candidate in built if candidate.feasible] or [candidate.name for candidate in built]


def _compared(
    engines: BuiltEngines, deployment: Deployment, shipped: Candidate, requirements: Requirements
) -> Deployment:
    """`deployment` with Polygraphy's comparison, and with nothing shipped if that is required and failed."""
    folder, described = engines.folder, engines.described
    with (
        engines.loaded({shipped.name: shipped.build}) as loaded,
        loaded[shipped.name].session() as session,
        engines.observer.stage("Comparing the engine with Polygraphy"),
    ):
        comparison = compare_models(
            folder / described.original.path, session, described.samples(folder), described.batch, requirements.snr_db
        )
    decision = deployment.decision
    if requirements.comparison and comparison.failed:
        failed = "; ".join(map(str, comparison.failed))
        verdict = f"nothing is shipped: {shipped.name} fails the comparison with FP32, which is required ({failed})"
        decision = replace(decision, shipped=None, verdict=verdict)
    return replace(deployment, comparison=comparison, decision=decision)


def _delivered(
    engines: BuiltEngines, deployment: Deployment, shipped: Candidate, constraints: Mapping[str, Precision]
) -> Deployment:
    """`deployment` with the shipped engine in its place."""
    manifest = ship(engines.folder, shipped.build, shipped.plan, engines.described, engines.options, engines.shapes)
    return replace(
        deployment,
        realised=realise(shipped.plan, engines.described.grouping, engines.layers(shipped.build)),
        score=shipped.score,
        engine_sha256=manifest.engine_sha256,
        reproduce=_trtexec(engines, shipped, constraints),
    )


def _timing_notes(timing: SideBySide | None) -> Iterator[str]:
    if timing is not None and timing.graph_refusal is not None:
        yield f"all engines were timed without CUDA graphs, because one cannot be captured: {timing.graph_refusal}"


def candidates_of(
    grouping: Grouping, result: SearchResult, at_fault: Mapping[str, Precision]
) -> Iterator[tuple[str, PrecisionPlan, bool | None]]:
    """Name, plan and feasibility (None: never scored) of what to build, each plan once, the chosen one first.

    Groups `at_fault` in a precision, because an engine computes something else there than its reference, are put into
    high precision wherever a plan has them in that.
    """
    high = grouping.uniform(grouping.top)
    feasible = {tried.plan: tried.feasible for tried in result.path}
    uniform = {precision.value: grouping.uniform(precision) for precision in result.ladder if precision.deployable}
    named = {PLAN: result.chosen.plan, **uniform}
    for i, plan in enumerate(_runners_up(result.path, excluding=set(named.values()))):
        named[f"candidate-{i + 2}"] = plan
    seen: set[PrecisionPlan] = set()
    for name, plan in named.items():
        mended = plan.replace({group: high[group] for group, wrong in at_fault.items() if plan[group] is wrong})
        if mended not in seen or name == grouping.top.value:
            seen.add(mended)
            yield name, mended, feasible.get(plan)


def _runners_up(path: tuple[Evaluation, ...], excluding: set[PrecisionPlan]) -> list[PrecisionPlan]:
    """The fastest plans beside those `excluding` that keep the target on every sample: an estimate ships nothing."""
    measured = [tried for tried in path if tried.complete and tried.feasible]
    others = {t.plan: t for t in measured if t.plan.deployable and t.plan not in excluding}
    return sorted(others, key=lambda plan: others[plan].latency_ms)[:_RUNNERS_UP]


def _trtexec(engines: BuiltEngines, shipped: Candidate, constraints: Mapping[str, Precision]) -> str:
    if engines.platform.flavour == "rtx":
        return ""  # trtexec does not know it
    major = int(engines.platform.tensorrt.partition(".")[0])
    network = engines.folder / ENGINE_FOLDER / NETWORK_FILE
    quantized = [precision for precision in shipped.plan.counts() if precision.quantized]
    typing, options = shipped.build.typing, engines.options
    return trtexec_command(network, options, typing, engines.shapes, major, constraints, quantized)
