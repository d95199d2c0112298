"""An engine is loaded only under a manifest that is there, whole, and says that it fits this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_mpq.engine.manifest import (
    AdmittedEngine,
    EngineManifest,
    admit,
    read_manifest,
    write_manifest,
)
from trt_mpq.errors import RunFolderError, RuntimeFailure
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision, PrecisionPlan
from trt_mpq.types.engine import Platform, ShapeRange

HERE = Platform("NVIDIA A10", 86, "10.16.1.11", "12.8", "570.86")
PLAN = PrecisionPlan.of({"stem": Precision.FP16, "head": Precision.INT8})
REBUILD = "trt-mpq engine runs/resnet"


def make_manifest(content=b"engine", *, platform=HERE, **options):
    return EngineManifest(
        engine_sha256=sha256(content).hexdigest(),
        onnx_sha256="a" * 64,
        model_sha256="b" * 64,
        ranges_sha256=None,
        plan=PLAN,
        plan_digest=PLAN.digest,
        platform=platform,
        options=EngineOptions(**options).model_dump(mode="json"),
        typing="strong",
        batch=8,
        shapes={"x": ShapeRange((1, 3, 32, 32), (8, 3, 32, 32), (8, 3, 32, 32))},
        version="0.1.0",
        created="2026-11-24T03:00:00Z",
        rebuild=REBUILD,
        batch_axes={},
        states={},
    )


def deliver(folder: Path, content=b"engine", manifest=None) -> Path:
    engine = folder / "engine.plan"
    engine.write_bytes(content)
    write_manifest(folder / "manifest.json", manifest or make_manifest(content))
    return engine


def admit_beside(engine: Path, platform: Platform) -> AdmittedEngine:
    return admit(engine, read_manifest(engine.parent / "manifest.json"), platform)


def test_round_trip(tmp_path):
    manifest = make_manifest(plugins=(Path("libmine.so"),), workspace_mib=512)

    write_manifest(tmp_path / "manifest.json", manifest)

    assert read_manifest(tmp_path / "manifest.json") == manifest
    stored = json.loads((tmp_path / "manifest.json").read_text())
    assert stored["plan"] == {"assignments": [["stem", "fp16"], ["head", "int8"]]}
    assert stored["plan_digest"] == PLAN.digest
    assert stored["options"]["plugins"] == ["libmine.so"]
    assert stored["shapes"]["x"]["maximum"] == [8, 3, 32, 32]


def test_a_matching_engine_is_admitted_with_its_bytes(tmp_path):
    admitted = admit_beside(deliver(tmp_path), HERE)

    assert (admitted.content, admitted.warnings) == (b"engine", ())


def test_an_engine_without_a_manifest_is_refused(tmp_path):
    engine = deliver(tmp_path)
    (tmp_path / "manifest.json").unlink()

    with pytest.raises(RunFolderError, match=r"manifest\.json is missing, .*: build the engine anew"):
        admit_beside(engine, HERE)


def test_a_manifest_without_its_engine_is_refused(tmp_path):
    engine = deliver(tmp_path)
    engine.unlink()

    with pytest.raises(RunFolderError, match=r"engine\.plan cannot be read \(No such file.*build the engine anew"):
        admit_beside(engine, HERE)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"engine_sha256": "a"}'])
def test_a_damaged_manifest_is_refused(tmp_path, damage):
    engine = deliver(tmp_path)
    (tmp_path / "manifest.json").write_bytes(damage)

    with pytest.raises(RunFolderError, match=r"manifest\.json is damaged: build the engine anew"):
        admit_beside(engine, HERE)


def test_an_unreadable_manifest_is_refused(tmp_path):
    (tmp_path / "manifest.json").mkdir()

    with pytest.raises(RunFolderError, match=r"manifest\.json cannot be read \(Is a directory\)"):
        read_manifest(tmp_path / "manifest.json")


def test_a_plan_that_is_not_the_one_of_its_digest_is_refused(tmp_path):
    engine = deliver(tmp_path, manifest=replace(make_manifest(), plan=PLAN.replace({"stem": Precision.INT8})))

    with pytest.raises(RunFolderError, match=r"its plan is not the one of its digest"):
        admit_beside(engine, HERE)


@pytest.mark.parametrize("field", list(EngineManifest.__dataclass_fields__))
def test_a_manifest_that_lacks_a_field_is_refused(tmp_path, field):
    engine = deliver(tmp_path)
    stored = json.loads((tmp_path / "manifest.json").read_text())
    del stored[field]
    (tmp_path / "manifest.json").write_text(json.dumps(stored))

    with pytest.raises(RunFolderError, match="is damaged"):
        admit_beside(engine, HERE)


@settings(max_examples=30)  # each example writes and flushes several files
@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_any_changed_byte_of_the_engine_is_refused(tmp_path_factory, content, data):
    engine = deliver(tmp_path_factory.mktemp("engine"), content)
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert admit_beside(engine, HERE).content == content

    for other in (bytes(changed), content[:-1], content + b"\0"):
        engine.write_bytes(other)
        with pytest.raises(
            RunFolderError, match=r"was changed .*: build the engine anew with `trt-mpq engine RUN_DIR`"
        ):
            admit_beside(engine, HERE)


@settings(max_examples=30)
@given(digit=st.integers(0, 63), value=st.sampled_from("0123456789abcdef"))
def test_any_changed_digit_of_the_engines_digest_is_refused(tmp_path_factory, digit, value):
    manifest = make_manifest()
    digest = manifest.engine_sha256
    other = digest[:digit] + value + digest[digit + 1 :]
    engine = deliver(tmp_path_factory.mktemp("engine"), manifest=replace(manifest, engine_sha256=other))

    if other == digest:
        assert admit_beside(engine, HERE).content == b"engine"
    else:
        with pytest.raises(RunFolderError, match="was changed"):
            admit_beside(engine, HERE)


other_text = st.text("0123456789. ABN", max_size=12)


@given(
    changes=st.one_of(
        st.fixed_dictionaries({"gpu": other_text}),
        st.fixed_dictionaries({"sm": st.integers(50, 130)}),
        st.fixed_dictionaries({"tensorrt": other_text}),
        st.fixed_dictionaries({"cuda": st.integers(0, 11).map(lambda major: f"{major}.8")}),
    )
)
def test_any_changed_identity_of_the_platform_is_refused(tmp_path_factory, changes):
    here = replace(HERE, **changes)
    if here == HERE:
        return

    with pytest.raises(RuntimeFailure, match=r"the engine was built for .*, not .*: build the engine anew"):
        admit_beside(deliver(tmp_path_factory.mktemp("engine")), here)


def test_every_difference_is_in_one_sentence(tmp_path):
    there = Platform("NVIDIA H100", 90, "11.4.0.106", "11.8", "580.1")

    with pytest.raises(RuntimeFailure) as caught:
        admit_beside(deliver(tmp_path), there)

    assert str(caught.value) == (
        "the engine was built for NVIDIA A10 (SM 8.6), not NVIDIA H100 (SM 9.0) and for TensorRT 10.16.1.11, not "
        "11.4.0.106 and for CUDA 12.8, not 11.8: build the engine anew with `trt-mpq engine RUN_DIR` here"
    )


def test_another_driver_and_a_newer_cuda_version_are_only_told(tmp_path):
    here = replace(HERE, cuda="13.0", driver="550.1")

    cuda, driver = admit_beside(deliver(tmp_path), here).warnings

    assert cuda.startswith(
        "the engine was built with CUDA 12.8 and runs with 13.0: should it misbehave, build the engine"
    )
    assert driver.startswith("the engine was built with driver 570.86 and runs with 550.1:")


OTHER_GPU = {"gpu": "NVIDIA A40"}


@pytest.mark.parametrize(
    ("level", "changes", "accepted"),
    [
        ("none", {}, True),
        ("none", OTHER_GPU, False),
        ("same_compute_capability", OTHER_GPU, True),
        ("same_compute_capability", {"gpu": "NVIDIA A100", "sm": 80}, False),
        ("ampere_plus", {"gpu": "NVIDIA A100", "sm": 80}, True),
        ("ampere_plus", {"gpu": "NVIDIA B200", "sm": 100}, True),
        ("ampere_plus", {"gpu": "NVIDIA T4", "sm": 75}, False),
    ],
)
def test_hardware_compatible_engines(tmp_path, level, changes, accepted):
    engine = deliver(tmp_path, manifest=make_manifest(hardware_compatible=level))
    here = replace(HERE, **changes)

    if accepted:
        assert admit_beside(engine, here).warnings == ()
    else:
        with pytest.raises(RuntimeFailure, match="was built for NVIDIA A10"):
            admit_beside(engine, here)


@pytest.mark.parametrize(
    ("compatible", "changes", "accepted"),
    [
        (False, {"tensorrt": "10.16.1.12"}, False),
        (True, {"tensorrt": "10.16.1.12"}, True),
        (True, {"tensorrt": "11.4.0.106", "cuda": "13.0"}, True),
        (True, {"tensorrt": "10.9.0.34"}, False),
        (True, {"tensorrt": "8.6.1"}, False),
        (True, {"tensorrt": ""}, False),
        (True, {"cuda": "11.8"}, False),
        (True, OTHER_GPU, False),
    ],
)
def test_version_compatible_engines(tmp_path, compatible, changes, accepted):
    engine = deliver(tmp_path, manifest=make_manifest(version_compatible=compatible))
    here = replace(HERE, **changes)

    if accepted:
        admit_beside(engine, here)
    else:
        with pytest.raises(RuntimeFailure, match="was built for"):
            admit_beside(engine, here)


def test_options_of_an_unknown_kind_open_nothing(tmp_path):
    for options in ({}, {"hardware_compatible": "all", "version_compatible": "yes"}):
        with pytest.raises(RuntimeFailure, match=r"NVIDIA A10.* and for TensorRT"):
            admit_beside(
                deliver(tmp_path, manifest=replace(make_manifest(), options=options)),
                replace(HERE, gpu="B", tensorrt="11.0"),
            )
