"""Real engines on a real GPU: what they compute, in which precision, how fast, and that a changed one is refused."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from bench.gpu_engines import GpuEngines
from bench.gpu_measure import Subject as BenchSubject
from tests.gpu.conftest import QUICK, Subject
from trt_mpq.dataset.chunks import chunks
from trt_mpq.engine.manifest import admit, read_manifest
from trt_mpq.engine.realised import disagreements, realise
from trt_mpq.errors import RunFolderError, RuntimeFailure
from trt_mpq.evaluate.compare import sqnr_db
from trt_mpq.pipeline.device_run import DeviceRun
from trt_mpq.runtime.base import Array, Session
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.settings import EngineOptions, Settings
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import EngineBuild
from trt_mpq.types.observer import SilentObserver

# NVIDIA's libraries warn of what they please; a warning there is no defect here.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

BATCH = 4
LEAST_SQNR_DB = {Precision.FP16: 40.0, Precision.BF16: 25.0, Precision.INT8: 20.0}
"""Of an engine against what its plan computes in ONNX Runtime. FP16 kernels sum in another order; in INT8 such a
difference now and then becomes another code, in BF16 another number of eight bits."""
LEAST_REALISED = 0.95


def build(gpu: GpuEngines, name: str, plan: PrecisionPlan) -> EngineBuild:
    """A build that must succeed."""
    found = gpu.build(name, plan)
    assert found.built, "\n".join((found.reason, *found.errors))
    return found


def outputs(session: Session, subject: Subject) -> Array:
    """The first output for the samples that travel with the run, as one array."""
    name = session.output_names[0]
    samples = subject.described.samples(subject.folder)
    return np.concatenate([chunk.run(session)[name] for chunk in chunks(samples, BATCH)])


@pytest.mark.parametrize("precision", LEAST_SQNR_DB, ids=str)
def test_an_engine_computes_what_its_plan_says(subject: Subject, options: EngineOptions, precision: Precision) -> None:
    gpu = subject.gpu(BATCH, options)
    if gpu.platform.sm < precision.spec.first_sm:
        pytest.skip(f"this GPU has no {precision}")
    plan = gpu.network.grouping.uniform(precision)
    builds = {"tested": build(gpu, "tested", plan)}
    with gpu.engines.loaded(builds) as engines, engines["tested"].session() as session:
        found = outputs(session, subject)
    expected = outputs(OnnxRuntime().load(gpu.network.emitter().reference(plan)), subject)
    ratio = sqnr_db(expected, found)
    assert ratio is None or ratio >= LEAST_SQNR_DB[precision]


@pytest.mark.parametrize("which", ["fp16", "int8", "searched"])
def test_groups_run_in_the_precision_they_were_asked_for(subject: Subject, options: EngineOptions, which: str) -> None:
    gpu = subject.gpu(BATCH, options)
    plan = subject.searched if which == "searched" else gpu.network.grouping.uniform(Precision(which))
    built = build(gpu, "tested", plan)
    found = realise(plan, gpu.described.grouping, gpu.engines.layers(built))
    # What TensorRT hides is no agreement: `disagreements` names it with the reason.
    assert found.agreeing >= LEAST_REALISED * len(found.groups), "\n".join(disagreements(found))


def test_engines_timed_in_turns_have_sane_profiles(subject: Subject) -> None:
    gpu = subject.gpu(BATCH)
    plans = {"fp16": gpu.network.grouping.uniform(Precision.FP16), "int8": gpu.network.grouping.uniform(Precision.INT8)}
    builds = {name: build(gpu, name, plan) for name, plan in plans.items()}
    timing = gpu.engines.time(builds, ["fp16"])
    assert set(timing.profiles) == set(plans)
    for profile in timing.profiles.values():
        assert profile.batch == BATCH
        assert profile.throughput > 0
        assert len(profile.layers) > 0
        assert all(layer.ms >= 0 for layer in profile.layers)
        for spread in (profile.gpu_compute, profile.enqueue, profile.h2d, profile.d2h, profile.latency):
            ordered = (spread.minimum, spread.median, spread.p90, spread.p95, spread.p99, spread.maximum)
            assert list(ordered) == sorted(ordered)
            assert spread.minimum <= spread.mean <= spread.maximum
        assert profile.gpu_compute.minimum > 0
        assert profile.latency.median >= profile.gpu_compute.median
    ratio = timing.ratio("int8")
    assert ratio is not None
    assert 0 < ratio.low <= ratio.value <= ratio.high


def test_the_shipped_engine_is_admitted_and_a_changed_one_refused(subject: Subject) -> None:
    settings = Settings(model=subject.folder / "model.onnx", engine=QUICK)
    deployment = DeviceRun(settings, subject.folder, SilentObserver()).ship(evaluate=False)
    assert deployment.shipped is not None
    engine = subject.folder / "engine" / "engine.plan"
    manifest = engine.with_name("manifest.json")
    assert admit(engine, read_manifest(manifest), subject.platform).content == engine.read_bytes()

    original = engine.read_bytes()
    engine.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(RunFolderError, match="changed"):
        admit(engine, read_manifest(manifest), subject.platform)
    engine.write_bytes(original)

    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["platform"]["gpu"], content["platform"]["sm"] = "another GPU", 10
    manifest.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RuntimeFailure, match="another GPU"):
        admit(engine, read_manifest(manifest), subject.platform)


def test_builds_share_a_timing_cache(subject: Subject, tmp_path: Path) -> None:
    """One that did not read it would leave its own timings alone in it."""
    gpu = subject.gpu(BATCH, QUICK.model_copy(update={"timing_cache": tmp_path / "timing"}))
    sizes = []
    for name, precision in (("first", Precision.INT8), ("other", Precision.FP16), ("again", Precision.INT8)):
        build(gpu, name, gpu.network.grouping.uniform(precision))
        (cache,) = (tmp_path / "timing").glob("*.cache")
        sizes.append(cache.stat().st_size)
    assert 0 < sizes[0] < sizes[1] <= sizes[2]


def test_the_benchmark_measures_every_plan(subject: Subject) -> None:
    row = BenchSubject(subject.folder, subject.platform, QUICK, (Precision.INT8,), SilentObserver()).measure(2)
    assert row.failure == ""
    assert {"fp32", "fp16", "int8", "searched", "lowered"} == {*row.engines, *row.same}
    for name, measured in row.engines.items():
        assert measured.profile is not None, measured.reason
        assert (measured.ratio is None) == (name == "fp16")
        assert all(value > 0 for value in astuple(measured.profile.gpu_compute))
        assert measured.sqnr_fp32_db is None or measured.sqnr_fp32_db > 10
