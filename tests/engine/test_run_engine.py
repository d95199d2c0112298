"""A shipped engine on data: only what its manifest vouches for is run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.engine.keys import Keys
from tests.fakes.fixtures import PretendGpu
from tests.networks import mlp, sample_input, stream, streaming
from tests.runtime.plans import plan_file
from trt_mpq.artifacts.files import write_arrays
from trt_mpq.dataset.arrays import load_npz
from trt_mpq.engine.manifest import FILE_NAME, EngineManifest, write_manifest
from trt_mpq.engine.run import run_engine
from trt_mpq.engine.signature import sign_manifest
from trt_mpq.errors import RunFolderError, RuntimeFailure, SettingsError
from trt_mpq.runtime.tensorrt.engine import LoadedEngine
from trt_mpq.runtime.tensorrt.platform import this_platform
from trt_mpq.settings import EngineOptions
from trt_mpq.types import PrecisionPlan
from trt_mpq.types.engine import ShapeRange
from trt_mpq.types.observer import SilentObserver

ROWS = {"input": ShapeRange((1, 32), (4, 32), (4, 32))}


def shipped(
    folder: Path,
    model: onnx.ModelProto,
    shapes: dict[str, ShapeRange],
    axes: dict[str, int | None] | None = None,
    states: dict[str, str] | None = None,
    **options: Any,
) -> Path:
    """An engine of `model` with its manifest."""
    engine = plan_file(folder / "engine.plan", model, shapes)
    plan = PrecisionPlan(())
    manifest = EngineManifest(
        engine_sha256=hashlib.sha256(engine.read_bytes()).hexdigest(), onnx_sha256="", model_sha256="",
        ranges_sha256=None, plan=plan, plan_digest=plan.digest, platform=this_platform(),
        options={**EngineOptions().model_dump(mode="json"), **options}, typing="strong", batch=4, shapes=shapes,
        version="1", created="", rebuild="trt-mpq engine run",
        batch_axes=axes or {}, states=states or {},
    )  # fmt: skip
    write_manifest(folder / FILE_NAME, manifest)
    return engine


def data(path: Path, **arrays: np.ndarray) -> str:
    write_arrays(arrays, path)
    return str(path)


def test_an_engine_that_is_exchanged_after_the_check_is_not_run(
    tmp_path: Path, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu()
    engine = shipped(tmp_path, mlp(), ROWS)
    feeds = sample_input(mlp(), 6)
    with LoadedEngine(engine) as loaded, loaded.session() as session:
        expected = [session.run({"input": feeds["input"][part]})["output"] for part in (slice(0, 4), slice(4, 6))]
    load = LoadedEngine.__init__

    def exchange(*arguments: Any, **named: Any) -> None:
        engine.write_bytes(b"exchanged")
        load(*arguments, **named)

    monkeypatch.setattr(LoadedEngine, "__init__", exchange)
    (output,) = run_engine(engine, data(tmp_path / "in.npz", **feeds), tmp_path / "out.npz", SilentObserver())
    assert (output.name, output.shape) == ("output", (6, 16))
    np.testing.assert_array_equal(load_npz(tmp_path / "out.npz")["output"], np.concatenate(expected))


@pytest.mark.parametrize("given", ["int32", "int64"])
def test_integers_of_either_width_reach_an_engine_that_reads_32_bit_ones(
    tmp_path: Path, pretend_gpu: PretendGpu, given: str
) -> None:
    pretend_gpu()
    text = '<ir_version: 8, opset_import: ["" : 17]> g (int32[n,2] ids) => (float[n,2] y) { y = Cast<to=1>(ids) }'
    shapes = {"ids": ShapeRange((1, 2), (4, 2), (4, 2))}
    engine = shipped(tmp_path, onnx.parser.parse_model(text), shapes)
    ids = np.arange(6, dtype=given).reshape(3, 2)
    run_engine(engine, data(tmp_path / "in.npz", ids=ids), tmp_path / "out.npz", SilentObserver())
    np.testing.assert_array_equal(load_npz(tmp_path / "out.npz")["y"], ids.astype(np.float32))


STATES = {"state": ShapeRange((1, 1, 16), (1, 4, 16), (1, 4, 16)), "x": ShapeRange((1, 12), (4, 12), (4, 12))}
AXES = {"state": 1, "next_state": 1}


def test_rows_of_states_are_where_the_manifest_says(tmp_path: Path, pretend_gpu: PretendGpu) -> None:
    """Six rows in batches of four: cut from the second axis, and joined along it."""
    pretend_gpu()
    engine = shipped(tmp_path, streaming(), STATES, AXES)
    generator = np.random.default_rng(0)
    state, x = (generator.standard_normal(shape).astype(np.float32) for shape in ((1, 6, 16), (6, 12)))
    found = run_engine(engine, data(tmp_path / "in.npz", x=x, state=state), tmp_path / "out.npz", SilentObserver())
    assert {output.name: output.shape for output in found} == {"scores": (6, 5), "next_state": (6, 1, 16)}
    expected = np.tanh(x @ weight("see") + state[0] @ weight("keep"))
    np.testing.assert_allclose(load_npz(tmp_path / "out.npz")["next_state"][:, 0], expected, atol=1e-5)


def test_an_engine_with_states_runs_sequences_step_by_step(tmp_path: Path, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    engine = shipped(tmp_path, streaming(), STATES, AXES, {"state": "next_state"})
    x = np.random.default_rng(0).standard_normal((6, 5, 12)).astype(np.float32)
    run_engine(engine, data(tmp_path / "in.npz", x=x), tmp_path / "out.npz", SilentObserver())
    np.testing.assert_allclose(load_npz(tmp_path / "out.npz")["scores"], stream(streaming(), x), atol=1e-5)


def weight(layer: str) -> np.ndarray:
    return next(onnx.numpy_helper.to_array(w) for w in streaming().graph.initializer if w.name == f"{layer}.weight")


def test_a_manifest_of_another_version_asks_for_a_new_build(tmp_path: Path, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    engine = shipped(tmp_path, mlp(), ROWS, an_option_of_tomorrow=1)
    source = data(tmp_path / "in.npz", **sample_input(mlp(), 2))
    with pytest.raises(
        RunFolderError, match=r"options of another version.*build the engine anew with `trt-mpq engine RUN_DIR`"
    ):
        run_engine(engine, source, tmp_path / "out.npz", SilentObserver())
    assert json.loads((tmp_path / FILE_NAME).read_text())["options"]["an_option_of_tomorrow"] == 1


def test_plugins_of_a_manifest_are_loaded_only_if_someone_vouches_for_them(
    tmp_path: Path, pretend_gpu: PretendGpu, keys: Keys
) -> None:
    pretend_gpu()
    named, own = tmp_path / "theirs.so", tmp_path / "mine.so"
    engine = shipped(tmp_path, mlp(), ROWS, plugins=[str(named)])
    source, output = data(tmp_path / "in.npz", **sample_input(mlp(), 2)), tmp_path / "out.npz"
    with pytest.raises(SettingsError, match=r"names the plugin library .*theirs\.so, which would be run as code here"):
        run_engine(engine, source, output, SilentObserver())
    sign_manifest(tmp_path / FILE_NAME, keys.private)
    for given, loaded in (({"plugins": [own]}, own), ({"trust": True}, named), ({"key": keys.public}, named)):
        with pytest.raises(RuntimeFailure, match=f"the plugin library {loaded} cannot be loaded"):
            run_engine(engine, source, output, SilentObserver(), **given)
    assert not output.exists()


def test_an_engine_must_be_signed_where_that_is_asked(tmp_path: Path, pretend_gpu: PretendGpu, keys: Keys) -> None:
    pretend_gpu()
    engine = shipped(tmp_path, mlp(), ROWS)
    source, output = data(tmp_path / "in.npz", **sample_input(mlp(), 2)), tmp_path / "out.npz"
    with pytest.raises(RunFolderError, match=r"is not signed \(manifest\.json\.sig: No such file"):
        run_engine(engine, source, output, SilentObserver(), key=keys.public)
    sign_manifest(tmp_path / FILE_NAME, keys.private)
    assert run_engine(engine, source, output, SilentObserver(), key=keys.public)[0].shape == (2, 16)

    engine.write_bytes(b"another")
    forged = json.loads((tmp_path / FILE_NAME).read_text()) | {"engine_sha256": hashlib.sha256(b"another").hexdigest()}
    (tmp_path / FILE_NAME).write_text(json.dumps(forged))
    with pytest.raises(RunFolderError, match=r"was not signed with the key to .*, or was changed since"):
        run_engine(engine, source, output, SilentObserver(), key=keys.public)
