"""The fakes have the API of the facts and compute what ONNX Runtime computes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.contracts.bindings import BindingUnavailableError, binding, wheel_of
from tests.contracts.facts import RECORDED
from tests.fakes.device import Log, Runner, build, context, load, tensorrt
from tests.fakes.install import VERSIONS, Behaviour, fake_packages, imported
from tests.fakes.samples import images, network

pytest_plugins = ["tests.fakes.fixtures"]

Pretend = Callable[..., Path]
FACTS = Path(__file__).parents[1] / "facts"


def facts(version: str) -> dict[str, Any]:
    return dict(json.loads((FACTS / f"tensorrt-{version}.json").read_text()))


def expected(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_every_class_has_the_names_of_the_facts_and_no_other(trt_version: str, pretend_gpu: Pretend) -> None:
    pretend_gpu(trt_version)
    trt = tensorrt()
    described = facts(trt_version)
    assert trt.__version__ == described["version"]
    for name, fact in described["classes"].items():
        wanted = {*fact.get("members", {}), *fact.get("enum", [])}
        wanted |= {"name", "value"} if "enum" in fact else set()
        assert {member for member in dir(getattr(trt, name)) if not member.startswith("_")} == wanted, name


def test_the_module_has_no_class_that_the_facts_lack(trt_version: str, pretend_gpu: Pretend) -> None:
    pretend_gpu(trt_version)
    found = {name for name, value in vars(tensorrt()).items() if isinstance(value, type) and not name.startswith("_")}
    assert found == set(facts(trt_version)["classes"])


@pytest.mark.parametrize("version", [version for version in RECORDED if version in VERSIONS])
def test_enums_have_the_numbers_of_the_real_bindings(
    version: str, pretend_gpu: Pretend, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    kept = pytestconfig.pluginmanager.has_plugin("cacheprovider")
    try:
        real = binding(wheel_of(version), pytestconfig.cache.mkdir("tensorrt-bindings") if kept else tmp_path)
    except BindingUnavailableError as reason:
        pytest.skip(str(reason))
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt_bindings as trt
classes = {name: kind for name, kind in vars(trt).items() if isinstance(kind, type)}
enums = {name: kind.__members__ for name, kind in classes.items() if hasattr(kind, "__members__")}
print(json.dumps({name: {key: int(value) for key, value in members.items()} for name, members in enums.items()}))
"""
    printed = subprocess.check_output(
        [sys.executable, "-I", "-S", "-c", code, real.folder],
        env={**os.environ, "LD_LIBRARY_PATH": str(real.libraries)},
    )
    pretend_gpu(version)
    for enum, members in json.loads(printed).items():
        assert {name: int(value) for name, value in getattr(tensorrt(), enum).__members__.items()} == members, enum


def test_what_11_removed_is_gone(pretend_gpu: Pretend) -> None:
    pretend_gpu("11.4")
    trt = tensorrt()
    gone = [(trt.BuilderFlag, "FP16"), (trt.ILayer, "precision"), (trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")]
    for owner, name in gone:
        with pytest.raises(AttributeError, match=name):
            getattr(owner, name)


def test_objects_take_no_attributes_they_do_not_have(fake_gpu: Path) -> None:
    config = tensorrt().Builder(Log().logger()).create_builder_config()
    with pytest.raises(AttributeError, match="max_workspace_size"):
        config.max_workspace_size = 1 << 30
    with pytest.raises(AttributeError, match="num_optimization_profiles"):
        config.num_optimization_profiles = 2


def test_calls_are_checked_as_pybind11_does(fake_gpu: Path) -> None:
    trt = tensorrt()
    config = trt.Builder(Log().logger()).create_builder_config()
    wrong: list[Callable[[], Any]] = [
        lambda: config.set_flag(),
        lambda: config.set_flag(trt.BuilderFlag.FP16, True),
        lambda: config.set_flag(1),
        lambda: config.set_flag(flags=trt.BuilderFlag.FP16),
        lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1.5),
        lambda: trt.Builder(),
        lambda: trt.Builder("a logger"),
        lambda: setattr(config, "builder_optimization_level", 2.5),
        lambda: setattr(config, "profiling_verbosity", 2),
    ]
    for call in wrong:
        with pytest.raises(TypeError, match=r"incompatible (function|constructor) arguments"):
            call()
    with pytest.raises(TypeError, match="No constructor defined"):
        trt.IBuilderConfig()


def test_a_subclass_must_construct_its_base(fake_gpu: Path) -> None:
    class Forgetful(tensorrt().ILogger):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="must be called when overriding __init__"):
        Forgetful()


def test_flags_are_no_integers(fake_gpu: Path) -> None:
    flag = tensorrt().BuilderFlag.TF32
    assert (int(flag), flag.name, flag == 6, flag == tensorrt().BuilderFlag(6)) == (6, "TF32", False, True)
    with pytest.raises(TypeError):
        1 << flag


def test_what_has_no_behaviour_says_so(fake_gpu: Path) -> None:
    with pytest.raises(NotImplementedError, match=r"10\.16\.1\.11 does not implement Builder\.get_plugin_registry"):
        tensorrt().Builder(Log().logger()).get_plugin_registry()


def test_a_plan_is_a_buffer_without_a_length(fake_gpu: Path, tmp_path: Path) -> None:
    engine = load(build(network()) or b"")
    memory = engine.serialize()
    (tmp_path / "plan").write_bytes(memory)
    assert (tmp_path / "plan").read_bytes() == bytes(memory)
    assert isinstance(memory, tensorrt().IHostMemory)
    assert memory.nbytes == len(bytes(memory))
    with pytest.raises(TypeError):
        len(memory)


@pytest.mark.parametrize(("version", "strong"), [("8.6", False), ("10.16", False), ("10.16", True), ("11.4", True)])
def test_an_engine_through_polygraphy_gives_onnx_runtimes_outputs(
    version: str, strong: bool, pretend_gpu: Pretend, tmp_path: Path
) -> None:
    pretend_gpu(version)
    from polygraphy.backend.trt import CreateConfig, EngineFromBytes, NetworkFromOnnxPath, Profile
    from polygraphy.logger import G_LOGGER

    model = network(("left", "right"))
    onnx.save(model, tmp_path / "model.onnx")
    weak = {} if strong else {"fp16": True, "int8": True, "precision_constraints": "obey"}
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        builder, definition, _ = NetworkFromOnnxPath(str(tmp_path / "model.onnx"), strongly_typed=strong)()
        shapes = Profile().add("x", (1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8))
        options = {"builder_optimization_level": 2, "refittable": True, "sparse_weights": True, "tf32": True}
        config = CreateConfig(profiles=[shapes], **options, **weak)(builder, definition)
        plan = builder.build_serialized_network(definition, config)
        assert EngineFromBytes(plan)().refittable
    with context() as cuda:
        for batch in (1, 3):
            result = Runner(cuda, bytes(plan), batch)(images(batch))
            np.testing.assert_allclose(result, expected(model, images(batch)), rtol=1e-5, atol=1e-5)


def test_devices_replace_each_other_and_leave_nothing(pretend_gpu: Pretend) -> None:
    from polygraphy.backend.trt import util

    found = []
    for version in VERSIONS:
        pretend_gpu(version)
        found.append((util.trt.__version__, type(util.get_trt_logger()).__mro__[1] is tensorrt().ILogger))
    assert found == [("8.6.0", True), ("10.16.1.11", True), ("11.4.0.106", True)]


def test_the_fakes_are_gone_afterwards(tmp_path: Path) -> None:
    before = list(sys.path)
    with imported(fake_packages(tmp_path, "8.6", Behaviour())):
        tensorrt()
        importlib.import_module("pycuda.driver")
        importlib.import_module("pynvml")
    assert not {"tensorrt", "pycuda", "pycuda.driver", "pynvml", "trt_fake"} & set(sys.modules)
    assert sys.path == before


@pytest.mark.parametrize(("version", "typing"), [("8.6", "weak"), ("10.16", "strong"), ("11.4", "strong")])
def test_the_product_builds_loads_runs_and_times(
    version: str, typing: Any, pretend_gpu: Pretend, tmp_path: Path
) -> None:
    """The path through the product, without its child process."""
    from trt_mpq.runtime.tensorrt.builder import build as build_engine
    from trt_mpq.runtime.tensorrt.engine import LoadedEngine
    from trt_mpq.runtime.tensorrt.request import BuildRequest
    from trt_mpq.runtime.tensorrt.timer import engine_timer
    from trt_mpq.settings import EngineOptions
    from trt_mpq.types.engine import ShapeRange

    pretend_gpu(version)
    model = network(("left", "right"))
    onnx.save(model, tmp_path / "model.onnx")
    request = BuildRequest(
        onnx=str(tmp_path / "model.onnx"),
        engine=str(tmp_path / "model.plan"),
        typing=typing,
        shapes={"x": ShapeRange((1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8))},
        options=EngineOptions(),
        timing_cache=str(tmp_path / "cache"),
    )
    built = build_engine(request)
    assert (built.status.value, built.errors) == ("built", ())
    with LoadedEngine(tmp_path / "model.plan") as engine:
        with engine.session() as session:
            result = session.run({"x": images(3)})["y"]
        with engine_timer(engine, [{"x": images(4)}, {"x": images(4) + 1}]) as timer:
            turns = {graph: timer.turn(5.0, 10, cuda_graph=graph) for graph in (False, True)}
    np.testing.assert_allclose(result, expected(model, images(3)), rtol=1e-5, atol=1e-5)
    plain, graph = (float(np.median([i.enqueue for i in turns[launch].iterations])) for launch in (False, True))
    assert plain > 2 * graph > 0


def test_samples_are_what_the_tests_say() -> None:
    """The expectations above count on these nodes."""
    operators = [node.op_type for node in network(("left",)).graph.node]
    assert operators.count("QuantizeLinear") == operators.count("DequantizeLinear") == 2
    assert helper.tensor_dtype_to_np_dtype(network(half=True).graph.initializer[0].data_type) == np.float16
