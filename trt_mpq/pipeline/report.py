"""The report of a run, from the values of its stages."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from trt_mpq import __version__
from trt_mpq.artifacts.store import Store
from trt_mpq.groups.accounting import account_for
from trt_mpq.pipeline.calibration import CalibrationStages
from trt_mpq.pipeline.delivery import DeliveryStages
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.layer_errors import layer_errors_of
from trt_mpq.pipeline.routes import routes_to_engines
from trt_mpq.pipeline.scoring import FP32, REQUIRED
from trt_mpq.pipeline.search import SearchStages
from trt_mpq.pipeline.shipping import Shipped, require_shipped, shipped_engine
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, EVALUATION, TARGET, model_title
from trt_mpq.report import data, explain, summary
from trt_mpq.report.files import write_files

_RECORDED_PACKAGES = (
    "onnx", "onnx-ir", "onnxruntime", "polygraphy", "numpy", "scipy", "ml-dtypes", "torch", "transformers", "tensorrt",
    "tensorrt-rtx-cu12-bindings", "pycuda",
)  # fmt: skip


def environment() -> dict[str, str]:
    """Versions of everything that can change a result."""
    found = {"trt-mpq": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_report(
    store: Store,
    calibration: CalibrationStages,
    search: SearchStages,
    delivery: DeliveryStages,
    gpu: Gpu,
    command: str,
    idle: tuple[str, ...] = (),
) -> data.Report:
    """Everything that a run has to say, which is written as report.json and report.html too; ships the engine first.

    Args:
        store: The run's.
        calibration: The calibrated network.
        search: What was searched and found.
        delivery: What is delivered.
        gpu: Where engines are built.
        command: The command line.
        idle: Options that do nothing in this run, a sentence each.

    Raises:
        ComparisonFailed: An output fails Polygraphy's comparison, and that is required.
    """
    comparison = delivery.judging.compared(store)
    engine = shipped_engine(store, calibration.described, delivery, gpu)
    deployed, compilation = engine.deployed, engine.compilation
    settings, network, groups = store.settings, store[calibration.scored.network], store[search.grouping]
    result, ranking, latency = store[delivery.plan.result], store[search.ranking.first], store[search.latency]
    fp32, required, plan = store[FP32], store[REQUIRED], result.chosen.plan
    energy = store[search.energy]
    files, scores = store[delivery.files], store[delivery.scores]
    limit = summary.limiting_option(settings)
    outcome = delivery.plan.outcome
    rescued = store[outcome].rescued if outcome else {}
    refused = compilation.raised if compilation else {}
    explainer = explain.Explainer(
        result,
        groups,
        ranking,
        latency,
        store[TARGET],
        None if limit else required,
        rescued,
        refused,
        store[delivery.searched].metric,
    )
    accuracy = summary.accuracy_figures(
        result, groups, fp32, required=required, metric=store[delivery.searched].metric,
        samples=store[EVALUATION].count, loss=store[delivery.judging.loss],
        fraction=settings.target_accuracy if settings.allowed_loss is None else None,
        holdout=None if settings.holdout is None else store[delivery.judging.holdout],
        file=scores.typed,
    )  # fmt: skip
    baseline = accuracy.of(groups.top)
    fault = store[search.fault] if baseline is not None and baseline < required else ""
    warnings = (
        *filter(None, [fault]),
        *([] if limit else summary.loss_warnings(accuracy)),
        *store[delivery.judging.notes],
        *summary.file_warnings(explainer, files, scores, required),
        *summary.range_warnings(explainer),
        *summary.scale_warnings(explainer, network.ranges, calibration.states[-1].own_scales),
        *summary.refusal_warnings(compilation, result, latency),
        *idle,
    )
    sizes = summary.plan_sizes(groups, network.model)
    layers = layer_errors_of(calibration.scored.network, delivery.plan.refinements, delivery.plan.result)
    operators = {str(node.name): node.op_type for node in network.graph.graph}
    share = explain.mac_share(plan, groups)
    samples = store[EVALUATION].count
    report = data.Report(
        model=data.ModelInfo(
            model_title(settings.model), network.model.source_sha256, network.model.parameters, network.model.opset
        ),
        calibration=data.CalibrationInfo(network.ranges.methods, network.ranges.samples, store[CALIBRATION].source),
        accuracy=accuracy,
        latency_ms=summary.latency_figures(result, groups, latency, store[BATCH], settings.price),
        size_bytes=summary.size_figures(result, groups, network.model, files.typed_bytes),
        search=summary.search_record(result, ranking, settings, samples, search.seconds(store), sizes, energy),
        plan=data.PlanRecord(
            plan.counts(), plan.as_dict(), plan.digest, files.deployable, share
        ),
        groups=len(groups.groups),
        group_rows=summary.group_rows(explainer, operators),
        refinement=(*calibration.records(store, store[search.shared]), *delivery.plan.records(store, search)),
        comparison=comparison,
        device=deployed,
        agreement=store[search.ranking.agreement] if search.ranking.agreement else None,
        warnings=warnings,
        not_done=tuple(_not_done(store, files.deployable, engine, gpu)),
        seed=settings.seed,
        environment=environment(),
        command=command,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        baseline=groups.top,
        multiply_adds=account_for(groups),
        compilation=compilation,
        routes=() if deployed else routes_to_engines(store, calibration.described, plan, files.weak_missing),
        tensors=summary.tensor_rows(groups, network.ranges),
        layer_errors=store[layers],
        energy_mj=summary.energy_figures(result, groups, latency, energy),
        data_faults=tuple(f"{text[0].upper()}{text[1:]}." for text in store[delivery.judging.faults]),
    )  # fmt: skip
    write_files(report, store.folder)
    require_shipped(store, engine)
    return report


def _not_done(store: Store, deployable: bool, engine: Shipped, gpu: Gpu) -> Iterator[str]:
    if not deployable:
        yield "no engine: the plan is not deployable"
    elif engine.deployed is None:
        why = "it was not asked for" if store.settings.engine.build == "never" else gpu.absence()
        yield (
            f"no engine was {'timed' if engine.has_engine else 'built or timed'}: {why}; on the device, "
            "`trt-mpq engine RUN_DIR` does it from this folder"
        )
    else:
        yield from engine.deployed.notes
