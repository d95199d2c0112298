"""The report of a run, from the values of its stages."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from trt_mpq import __version__
from trt_mpq.artifacts.files import write_text
from trt_mpq.artifacts.store import Store
from trt_mpq.pipeline.calibrated import Calibrated
from trt_mpq.pipeline.delivery import Delivered
from trt_mpq.pipeline.deployment import deployment
from trt_mpq.pipeline.gpu import Gpu
from trt_mpq.pipeline.scoring import FP32, REQUIRED
from trt_mpq.pipeline.search import Found
from trt_mpq.pipeline.sources import BATCH, CALIBRATION, DATA_NOTES, EVALUATION, METRIC, TARGET
from trt_mpq.report import data, explain, html, summary
from trt_mpq.types.engine import Deployment

_RECORDED_PACKAGES = (
    "onnx", "onnx-ir", "onnxruntime", "polygraphy", "numpy", "scipy", "ml-dtypes", "torch", "transformers", "tensorrt",
    "pycuda",
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


def run_report(
    store: Store, calibrated: Calibrated, found: Found, delivered: Delivered, gpu: Gpu, command: str
) -> data.Report:
    """Everything that a run has to say, which is written as report.json and report.html too; ships the engine first.

    Args:
        store: The run's.
        calibrated: The calibrated network.
        found: What was searched and found.
        delivered: What is delivered.
        gpu: Where engines are built.
        command: The command line.
    """
    comparison = store[delivered.comparison]
    deployed = _deployed(store, calibrated, delivered, gpu)
    settings, network, groups = store.settings, store[calibrated.scored.network], store[found.grouping]
    result, ranking, latency = store[delivered.refined.result], store[found.rankings.first], store[found.latency]
    fp32, required, plan = store[FP32], store[REQUIRED], result.chosen.plan
    limit = summary.limiting_option(settings)
    outcome = delivered.refined.outcome
    rescued = store[outcome].rescued if outcome else {}
    explainer = explain.Explainer(result, groups, ranking, latency, store[TARGET], None if limit else required, rescued)
    delivery, typed = store[delivered.files], store[delivered.scores]["typed"]
    warnings = (
        *store[DATA_NOTES],
        *summary.file_warnings(explainer, delivery, fp32, typed, required, limit is not None),
        *summary.range_warnings(explainer, network.ranges),
    )
    operators = {str(node.name): node.op_type for node in network.graph.graph}
    share = explain.mac_share(plan, {group.id: group.flops for group in groups.groups})
    samples = store[EVALUATION].count
    report = data.Report(
        model=data.ModelInfo(
            settings.model.name, network.model.source_sha256, network.model.parameters, network.model.opset
        ),
        calibration=data.CalibrationInfo(network.ranges.methods, network.ranges.samples, store[CALIBRATION].source),
        accuracy=summary.accuracy_figures(
            result,
            groups,
            fp32,
            required=required,
            fraction=settings.target_accuracy,
            metric=store[METRIC].name,
            samples=samples,
        ),
        latency_ms=summary.latency_figures(result, groups, latency, store[BATCH]),
        size_bytes=summary.size_figures(result, groups, network.model),
        search=summary.search_record(result, ranking, settings, samples, found.seconds(store)),
        plan=data.PlanRecord(plan.counts(), plan.as_dict(), plan.digest, delivery.deployable, share),
        groups=len(groups.groups),
        group_rows=summary.group_rows(explainer, operators),
        refinement=(*calibrated.records(store, store[found.kept]), *delivered.refined.records(store, found)),
        comparison=comparison,
        device=deployed,
        agreement=store[found.rankings.agreement] if found.rankings.agreement else None,
        warnings=warnings,
        not_done=tuple(_not_done(delivery.deployable, deployed, gpu.absence)),
        seed=settings.seed,
        environment=environment(),
        command=command,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        baseline=groups.top,
    )
    write_text(store.folder / "report.json", data.report_to_json(report))
    write_text(store.folder / "report.html", html.render_html(report))
    return report


def _deployed(store: Store, calibrated: Calibrated, delivered: Delivered, gpu: Gpu) -> Deployment | None:
    if store.settings.engine.build == "never" or not store[delivered.refined.result].chosen.plan.deployable:
        return None
    return deployment(store, calibrated.described, delivered.searched, gpu)


def _not_done(deployable: bool, deployed: Deployment | None, no_device: str | None) -> Iterator[str]:
    if not deployable:
        yield "no engine: the plan is not deployable"
    elif deployed is None:
        why = no_device or "it was not asked for"
        yield (
            f"no engine was built or timed: {why}; on the device, `trt-mpq engine RUN_DIR` does it from this folder, "
            "or `trtexec --onnx=typed.onnx --stronglyTyped --saveEngine=model.plan`"
        )
    else:
        yield from deployed.notes
