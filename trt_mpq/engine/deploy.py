"""From a searched run to the engine that is shipped: build, time in turns, decide, verify.

The plan of the search, the fastest other feasible plans it saw and the uniform baselines are all built and timed in
one session. What is shipped is the fastest that is feasible and beats the network in its high precision, the baseline,
by more than the noise; or the baseline.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone

from trt_mpq import __version__
from trt_mpq.artifacts.storage import atomic_path, key_of, sha256_of, to_json, to_stored_json, write_text
from trt_mpq.engine.decide import PLAN, decide
from trt_mpq.engine.manifest import FILE_NAME as MANIFEST_FILE
from trt_mpq.engine.manifest import EngineManifest, write_manifest
from trt_mpq.engine.profile.trtexec import trtexec_command
from trt_mpq.engine.realised import realise
from trt_mpq.engine.workshop import ENGINE_FOLDER, Workshop, data_file
from trt_mpq.evaluate.compare import compare_models
from trt_mpq.model import model_digest
from trt_mpq.pipeline.handover import Searched
from trt_mpq.runtime.base import Session
from trt_mpq.types import Evaluation, PrecisionPlan, Ranges, Score
from trt_mpq.types.engine import Candidate, Deployment, SideBySide
from trt_mpq.types.observer import Observer

RUNNERS_UP = 2
"""Further feasible plans that are built beside the chosen one and the uniform ones."""
COMPARED_SAMPLES = 64
_NOT_SCORED = "no evaluation data here: the task score through the engine was not measured"
ENGINE_FILE, NETWORK_FILE, PLAN_FILE = "engine.plan", "network.onnx", "plan.json"

Judge = Callable[[Session], Score]
"""Gives the task score of a session on the evaluation data."""


def deploy(workshop: Workshop, searched: Searched, observer: Observer, judge: Judge | None) -> Deployment:
    """Build, time and verify the candidates of `searched`; the one that is shipped goes into the folder `engine`.

    Args:
        workshop: Builds and times.
        searched: What the search found.
        observer: Told what happens.
        judge: Scores the shipped engine; None without evaluation data.

    Raises:
        RunFolderError: A file cannot be written.
        RuntimeFailure: An engine that was built cannot be run.
    """
    candidates = tuple(
        Candidate(name, plan, workshop.build(name, plan), feasible)
        for name, plan, feasible in candidates_of(workshop, searched)
    )
    built = {candidate.name: candidate.build for candidate in candidates if candidate.build.built}
    baseline = workshop.network.grouping.top.value
    timing = workshop.time(built, baseline if baseline in built else next(iter(built))) if built else None
    decision = decide(candidates, timing, workshop.options.margin, baseline)
    undelivered = Deployment(
        workshop.platform, workshop.described.batch, candidates, timing, decision, notes=tuple(_timing_notes(timing))
    )
    if undelivered.shipped is None:
        return undelivered
    return _delivered(workshop, undelivered, undelivered.shipped, observer, judge)


def _delivered(
    workshop: Workshop, deployment: Deployment, shipped: Candidate, observer: Observer, judge: Judge | None
) -> Deployment:
    """`deployment` with the shipped engine in its place and verified."""
    _deliver(workshop, shipped)
    with workshop.loaded({shipped.name: shipped.build}) as engines, engines[shipped.name].session() as session:
        with observer.stage("Comparing the engine with Polygraphy"):
            comparison = compare_models(
                workshop.folder / workshop.described.original.path, session,
                workshop.described.samples(workshop.folder), workshop.described.batch, COMPARED_SAMPLES,
            )  # fmt: skip
        score = None if judge is None else _judged(judge, session, observer)
    return replace(
        deployment,
        realised=realise(shipped.plan, workshop.described.grouping, workshop.layers(shipped.name)),
        comparison=comparison,
        score=score,
        reproduce=_trtexec(workshop, shipped),
        notes=deployment.notes if judge else (*deployment.notes, _NOT_SCORED),
    )


def _timing_notes(timing: SideBySide | None) -> Iterator[str]:
    if timing is not None and timing.graph_refusal is not None:
        yield f"all engines were timed without CUDA graphs, because one cannot be captured: {timing.graph_refusal}"


def candidates_of(workshop: Workshop, searched: Searched) -> Iterator[tuple[str, PrecisionPlan, bool | None]]:
    """Name, plan and feasibility (None: never scored) of what to build, each plan once, the chosen one first."""
    result, network = searched.result, workshop.network
    feasible = {tried.plan: tried.feasible for tried in result.path}
    uniform = {precision.value: network.uniform(precision) for precision in result.ladder if precision.deployable}
    named = {PLAN: result.chosen.plan, **uniform}
    for i, plan in enumerate(_runners_up(result.path, excluding=set(named.values()))):
        named[f"candidate-{i + 2}"] = plan
    seen: set[PrecisionPlan] = set()
    for name, plan in named.items():
        if plan not in seen or name == network.grouping.top.value:
            seen.add(plan)
            yield name, plan, feasible.get(plan)


def _runners_up(path: tuple[Evaluation, ...], excluding: set[PrecisionPlan]) -> list[PrecisionPlan]:
    """The fastest plans beside those `excluding` that keep the target on every sample: an estimate ships nothing."""
    measured = [tried for tried in path if tried.complete and tried.feasible]
    others = {t.plan: t for t in measured if t.plan.deployable and t.plan not in excluding}
    return sorted(others, key=lambda plan: others[plan].latency_ms)[:RUNNERS_UP]


def _trtexec(workshop: Workshop, shipped: Candidate) -> str:
    major = int(workshop.platform.tensorrt.partition(".")[0])
    network = workshop.folder / ENGINE_FOLDER / NETWORK_FILE
    constraints = workshop.constraints(shipped.plan)
    quantized = [precision for precision in shipped.plan.counts() if precision.quantized]
    return trtexec_command(network, workshop.options, workshop.typing, workshop.shapes, major, constraints, quantized)


def _judged(judge: Judge, session: Session, observer: Observer) -> Score:
    with observer.stage("Scoring the engine"):
        return judge(session)


def _deliver(workshop: Workshop, shipped: Candidate) -> None:
    """Copy the shipped engine and its network into the folder `engine`, with a manifest that binds them.

    Weights beside a large network keep their file's name, which the network tells.
    """
    folder = workshop.folder / ENGINE_FOLDER
    network = workshop.path(f"{shipped.name}.onnx")
    copies = {workshop.path(f"{shipped.name}.plan"): ENGINE_FILE, network: NETWORK_FILE}
    if data_file(network).exists():
        copies[data_file(network)] = data_file(network).name
    # An engine is trusted by its manifest, which goes first and is written last.
    for outdated in (folder / MANIFEST_FILE, *folder.glob("*.onnx.data")):
        outdated.unlink(missing_ok=True)
    for source, name in copies.items():
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source, temporary)
    write_text(folder / PLAN_FILE, to_json(shipped.plan.as_dict(), dict[str, str]))
    described = workshop.described
    manifest = EngineManifest(
        engine_sha256=sha256_of(folder / ENGINE_FILE),
        onnx_sha256=model_digest(folder / NETWORK_FILE),
        model_sha256=described.model.source_sha256,
        ranges_sha256=key_of(to_stored_json(described.ranges, Ranges)),
        plan=shipped.plan,
        plan_digest=shipped.plan.digest,
        platform=workshop.platform,
        options=workshop.options.model_dump(mode="json"),
        typing=shipped.build.typing,
        batch=described.batch,
        shapes=workshop.shapes,
        version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        rebuild=shlex.join(["trt-mpq", "engine", str(workshop.folder)]),
    )
    write_manifest(folder / MANIFEST_FILE, manifest)
