"""Building in one process, on pretended devices with TensorRT 8.6, 10.16 and 11.4."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tests.fakes.fixtures import PretendGpu, pretend_gpu, trt_version
from tests.networks import mlp, residual_cnn
from trt_mpq.errors import RuntimeFailure, SettingsError
from trt_mpq.runtime.tensorrt.builder import build
from trt_mpq.runtime.tensorrt.config import add_profile, create_config
from trt_mpq.runtime.tensorrt.logger import BuildLog
from trt_mpq.runtime.tensorrt.network import parse_network
from trt_mpq.runtime.tensorrt.refusal import BuildError
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.runtime.tensorrt.timing_cache import TimingCache
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import BuildStatus, EngineBuild, Platform, ShapeRange

__all__ = ["pretend_gpu", "trt_version"]

EXACT = {"8.6": "8.6.0", "10.16": "10.16.1.11", "11.4": "11.4.0.106"}
TYPING = {"8.6": "weak", "10.16": "strong", "11.4": "strong"}
IMAGES = {"input": ShapeRange((1, 3, 16, 16), (8, 3, 16, 16), (8, 3, 16, 16))}
ROWS = {"input": ShapeRange((1, 32), (4, 32), (4, 32))}


class Bench:
    """Builds networks in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def request(self, network: onnx.ModelProto, version: str, **fields: Any) -> BuildRequest:
        onnx.save(network, self.folder / "net.onnx")
        defaults = {
            "onnx": str(self.folder / "net.onnx"),
            "engine": str(self.folder / "net.plan"),
            "typing": TYPING[version],
            "shapes": ROWS,
            "options": EngineOptions(),
            "timing_cache": str(self.folder / "caches"),
        }
        return BuildRequest(**(defaults | fields))

    def build(self, network: onnx.ModelProto, version: str, **fields: Any) -> EngineBuild:
        return build(self.request(network, version, **fields))

    @property
    def layers(self) -> list[dict[str, Any]]:
        """What the inspector said of the last engine."""
        layers: list[dict[str, Any]] = json.loads((self.folder / "net.layers.json").read_text())["Layers"]
        return layers

    @property
    def caches(self) -> list[Path]:
        return sorted((self.folder / "caches").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def with_last_layer_quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with a Q/DQ pair before its last node, which TensorRT builds only if INT8 is allowed."""
    *before, last = model.graph.node
    pair = [
        helper.make_node("QuantizeLinear", [last.input[0], "scale", "zero"], ["q.out"], name="q"),
        helper.make_node("DequantizeLinear", ["q.out", "scale", "zero"], ["dq.out"], name="dq"),
    ]
    last.input[0] = "dq.out"
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])
    zero = helper.make_tensor("zero", TensorProto.INT8, [], [0])
    graph = helper.make_graph(
        [*before, *pair, last], "g", model.graph.input, model.graph.output, [*model.graph.initializer, scale, zero]
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def with_unknown_operators(count: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["t0"], name="first")]
    nodes += [
        helper.make_node("Mystery", [f"t{index}"], [f"t{index + 1}"], name=f"odd{index}", domain="local")
        for index in range(count)
    ]
    border = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", f"t{count}")]
    graph = helper.make_graph(nodes, "g", border[:1], border[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("local", 1)])


def test_an_engine_its_description_and_its_platform(bench: Bench, pretend_gpu: PretendGpu, trt_version: str) -> None:
    pretend_gpu(trt_version, gpu="NVIDIA L4", sm=89)
    made = bench.build(residual_cnn(), trt_version, shapes=IMAGES)
    assert made.status is BuildStatus.BUILT
    assert made.platform == Platform("NVIDIA L4", 89, EXACT[trt_version], "13.0", "580.82.07")
    assert (made.engine, made.layers, made.typing) == ("net.plan", "net.layers.json", TYPING[trt_version])
    assert made.size_bytes == (bench.folder / "net.plan").stat().st_size
    assert (made.errors, made.reason, made.unused) == ((), "", ())
    assert all({"Inputs", "Outputs", "LayerType"} <= set(layer) for layer in bench.layers)  # DETAILED
    found = sorted(path.name for path in bench.folder.iterdir())
    assert found == ["caches", "net.layers.json", "net.onnx", "net.plan"]


def test_nothing_is_printed(bench: Bench, pretend_gpu: PretendGpu, capfd: pytest.CaptureFixture[str]) -> None:
    pretend_gpu()
    assert bench.build(mlp(), "10.16").built
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("version", ["8.6", "10.16"])
def test_a_weak_network_runs_each_node_in_the_precision_of_the_plan(
    bench: Bench, pretend_gpu: PretendGpu, version: str
) -> None:
    pretend_gpu(version)
    plan = {"fc1": Precision.FP32, "fc1.relu": Precision.FP32, "fc2": Precision.FP16, "lost": Precision.FP16}
    made = bench.build(with_last_layer_quantized(mlp()), version, typing="weak", constraints=plan)
    assert made.built
    assert made.unused == ("1 of 4 precision constraints: TensorRT has no layer of that name (lost)",)
    types = {
        node: {output.get("Datatype") or output["Format/Datatype"] for output in layer["Outputs"]}
        for layer in bench.layers
        for node in ("fc1", "fc2")
        if f"[ONNX Layer: {node}]" in layer["Metadata"]
    }
    assert all("FP32" in text or "Float" in text for text in types["fc1"])
    assert all("FP16" in text or "Half" in text for text in types["fc2"])


@pytest.mark.parametrize(("version", "typing"), [("8.6", "strong"), ("11.4", "weak")])
def test_a_typing_the_version_lacks_is_the_users_to_change(
    bench: Bench, pretend_gpu: PretendGpu, version: str, typing: str
) -> None:
    pretend_gpu(version)
    with pytest.raises(SettingsError, match=f"has no {typing} typing"):
        bench.build(mlp(), version, typing=typing)


@pytest.mark.parametrize("version", ["8.6", "10.16"])
def test_a_node_the_parser_does_not_know_is_named(bench: Bench, pretend_gpu: PretendGpu, version: str) -> None:
    pretend_gpu(version)
    made = bench.build(with_unknown_operators(1), version, shapes={})
    assert made.status is BuildStatus.FAILED
    assert made.reason.startswith(
        f"TensorRT {EXACT[version]} cannot parse net.onnx: node odd0 (Mystery): Assertion failed"
    )
    assert len(made.errors) == 1
    assert (made.engine, made.platform is None) == (None, False)
    assert not (bench.folder / "net.plan").exists()


def test_of_many_unknown_nodes_some_are_named_and_the_log_has_all(bench: Bench, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    made = bench.build(with_unknown_operators(5), "10.16", shapes={})
    assert [f"odd{index}" in made.reason for index in range(5)] == [True, True, True, False, False]
    assert made.reason.endswith("; and 2 more")
    assert (bench.folder / "net.log").read_text().count("[E] ") == len(made.errors) == 5


@pytest.mark.parametrize("version", ["8.6", "11.4"])
def test_a_file_that_is_no_network_is_an_outcome(bench: Bench, pretend_gpu: PretendGpu, version: str) -> None:
    pretend_gpu(version)
    request = bench.request(mlp(), version)
    (bench.folder / "net.onnx").write_bytes(b"nonsense")
    made = build(request)
    assert made.status is BuildStatus.FAILED
    assert made.reason.startswith(f"TensorRT {EXACT[version]} cannot parse net.onnx: Failed to parse")


@pytest.mark.parametrize("version", ["8.6", "11.4"])
def test_a_build_that_tensorrt_gives_up_says_why(bench: Bench, pretend_gpu: PretendGpu, version: str) -> None:
    pretend_gpu(version, failing_node="fc2")
    made = bench.build(mlp(), version)
    assert made.status is BuildStatus.FAILED
    assert f"TensorRT {EXACT[version]} could not build an engine from net.onnx: Error Code 10" in made.reason
    assert "Could not find any implementation for node fc2" in made.errors[0]
    assert made.reason.endswith(made.errors[0])
    assert not (bench.folder / "net.plan").exists()


def test_the_inspector_is_told_the_shapes_of_dynamic_inputs(
    bench: Bench, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu()
    import tensorrt as trt

    shapes = []

    def look(inspector: trt.EngineInspector, form: trt.LayerInformationFormat) -> None:
        shapes.append(tuple(inspector.execution_context.get_tensor_shape("input")))

    monkeypatch.setattr(trt.EngineInspector, "get_engine_information", look)
    assert bench.build(mlp(), "10.16").built
    assert bench.layers == []  # TensorRT may tell nothing
    assert shapes == [(4, 32)]


def test_an_engine_that_cannot_be_loaded_is_not_kept(
    bench: Bench, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu()
    import tensorrt as trt

    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", lambda self, plan: None)
    made = bench.build(mlp(), "10.16")
    assert made.status is BuildStatus.FAILED
    assert made.reason == ("TensorRT 10.16.1.11 cannot load the engine it built from net.onnx: it gave no reason")
    assert not (bench.folder / "net.plan").exists()


def test_without_a_gpu_it_is_not_the_engines_fault(bench: Bench, pretend_gpu: PretendGpu, trt_version: str) -> None:
    pretend_gpu(trt_version, available=False)
    with pytest.raises(
        RuntimeFailure, match=rf"TensorRT {EXACT[trt_version]} cannot use a GPU here \(.*CUDA.*: check the driver"
    ):
        bench.build(mlp(), trt_version)


def test_timings_are_kept_per_gpu_and_version_and_used_again(bench: Bench, pretend_gpu: PretendGpu) -> None:
    for version, gpu, sm in (("10.16", "NVIDIA L4", 89), ("10.16", "NVIDIA H200", 90), ("11.4", "NVIDIA L4", 89)):
        pretend_gpu(version, gpu=gpu, sm=sm)
        assert bench.build(mlp(), version).unused == ()
    assert [path.name for path in bench.caches] == [
        "nvidia-h200-sm90-trt10.16.1.11.cache",
        "nvidia-l4-sm89-trt10.16.1.11.cache",
        "nvidia-l4-sm89-trt11.4.0.106.cache",
    ]
    pretend_gpu("11.4", gpu="NVIDIA L4", sm=89)
    known = bench.caches[2].read_bytes()
    assert bench.build(residual_cnn(), "11.4", shapes=IMAGES).unused == ()
    assert _entries(known) < _entries(bench.caches[2].read_bytes())


@pytest.mark.parametrize("damage", ["truncated", "another GPU's"])
def test_timings_that_do_not_fit_are_ignored_with_a_note(bench: Bench, pretend_gpu: PretendGpu, damage: str) -> None:
    pretend_gpu(gpu="NVIDIA L4")
    bench.build(mlp(), "10.16")
    (cache,) = bench.caches
    cache.write_bytes(cache.read_bytes().replace(b"NVIDIA L4", b"NVIDIA T4") if damage != "truncated" else b"FAKE")
    made = bench.build(mlp(), "10.16")
    assert made.built
    assert made.unused == (f"timing cache {cache}: TensorRT refused its content, so it was made anew",)
    assert bench.build(mlp(), "10.16").unused == ()


def test_timings_that_do_not_fit_are_not_blamed_for_a_build_that_fails(bench: Bench, pretend_gpu: PretendGpu) -> None:
    pretend_gpu("11.4")
    bench.build(mlp(), "11.4")
    bench.caches[0].write_bytes(b"damaged")
    pretend_gpu("11.4", failing_node="fc2")
    made = bench.build(mlp(), "11.4")
    assert len(made.errors) == 1
    assert "Could not find any implementation for node fc2" in made.reason
    assert "[W] Error Code 1: Serialization" in (bench.folder / "net.log").read_text()


def test_timings_that_cannot_be_read_are_ignored_with_a_note(
    bench: Bench, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(cache: TimingCache) -> bytes:
        raise PermissionError(13, "Permission denied", str(cache.file))

    pretend_gpu()
    monkeypatch.setattr(TimingCache, "read", refuse)
    (note,) = bench.build(mlp(), "10.16").unused
    assert note.endswith(".cache: it cannot be read (Permission denied)")


@pytest.mark.parametrize("version", ["8.6", "11.4"])
def test_an_engine_for_later_versions_can_be_loaded_back(bench: Bench, pretend_gpu: PretendGpu, version: str) -> None:
    pretend_gpu(version)
    assert bench.build(mlp(), version, options=EngineOptions(version_compatible=True)).built


def test_a_level_of_compatibility_the_version_lacks_is_refused(bench: Bench, pretend_gpu: PretendGpu) -> None:
    """Left out, the engine's manifest would still promise it, and admit other GPUs."""
    options = EngineOptions(hardware_compatible="same_compute_capability")
    pretend_gpu("8.6")
    with pytest.raises(SettingsError, match=r"same_compute_capability does not exist in TensorRT 8\.6\.0: choose"):
        bench.build(mlp(), "8.6", options=options)
    pretend_gpu("10.16")
    assert bench.build(mlp(), "10.16", options=options).built


def test_a_plugin_library_that_cannot_be_loaded_is_named(bench: Bench, pretend_gpu: PretendGpu) -> None:
    pretend_gpu()
    with pytest.raises(SettingsError, match=r"cannot load the plugin library /nowhere/libplugin.so \("):
        bench.build(mlp(), "10.16", options=EngineOptions(plugins=(Path("/nowhere/libplugin.so"),)))


def test_a_profile_that_tensorrt_refuses_fails_the_build() -> None:
    shapes: list[Any] = []
    profile = SimpleNamespace(set_shape=lambda *given: shapes.append(given))
    builder: Any = SimpleNamespace(create_optimization_profile=lambda: profile)
    config: Any = SimpleNamespace(add_optimization_profile=lambda given: -1)
    with pytest.raises(BuildError, match=r"refused the optimization profile input=1x32:4x32:4x32$"):
        add_profile(builder, config, ROWS)
    assert shapes == [("input", (1, 32), (4, 32), (4, 32))]


class Configured:
    """A configuration made from options on a pretended device, and what can be asked of it."""

    def __init__(self, bench: Bench, version: str, options: EngineOptions) -> None:
        import tensorrt as trt

        self.trt: Any = trt
        logger = BuildLog(bench.folder / "net.log").for_tensorrt()
        self.builder: Any = trt.Builder(logger)
        self.network = parse_network(bench.request(mlp(), version, options=options), self.builder, logger)
        self.config: Any = create_config(self.builder, self.network[0], options, {}, b"")

    @property
    def flags(self) -> set[str]:
        return {name for name, flag in self.trt.BuilderFlag.__members__.items() if self.config.get_flag(flag)}


def test_by_default_nothing_is_changed_but_what_is_described_and_tf32(
    bench: Bench, pretend_gpu: PretendGpu, trt_version: str
) -> None:
    pretend_gpu(trt_version)
    made = Configured(bench, trt_version, EngineOptions())
    assert made.flags == set()
    assert made.config.profiling_verbosity == made.trt.ProfilingVerbosity.DETAILED
    assert made.config.builder_optimization_level == 3
    assert made.config.hardware_compatibility_level == made.trt.HardwareCompatibilityLevel.NONE
    assert made.config.num_optimization_profiles == 0


def test_every_option_reaches_the_builder(bench: Bench, pretend_gpu: PretendGpu, trt_version: str) -> None:
    pretend_gpu(trt_version, dla_cores=2)
    options = EngineOptions(
        workspace_mib=512,
        optimization_level=5,
        version_compatible=True,
        hardware_compatible="ampere_plus",
        refit=True,
        sparsity=True,
        tf32=True,
        dla_core=1,
    )
    made = Configured(bench, trt_version, options)
    assert made.flags == {"VERSION_COMPATIBLE", "REFIT", "SPARSE_WEIGHTS", "TF32", "GPU_FALLBACK"}
    assert made.config.get_memory_pool_limit(made.trt.MemoryPoolType.WORKSPACE) == 512 * 1024**2
    assert made.config.builder_optimization_level == 5
    assert made.config.hardware_compatibility_level == made.trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert (made.config.DLA_core, made.config.default_device_type) == (1, made.trt.DeviceType.DLA)


@pytest.mark.parametrize(("core", "cores"), [(0, 0), (2, 2)])
def test_a_dla_core_that_is_not_there_is_refused(bench: Bench, pretend_gpu: PretendGpu, core: int, cores: int) -> None:
    pretend_gpu(dla_cores=cores)
    with pytest.raises(SettingsError, match=f"dla_core {core} does not exist: .* this device has {cores} DLA cores"):
        Configured(bench, "10.16", EngineOptions(dla_core=core))


@pytest.mark.parametrize(
    ("options", "native"),
    [
        (EngineOptions(), False),
        (EngineOptions(version_compatible=True), True),
        (EngineOptions(hardware_compatible="ampere_plus"), True),
    ],
)
def test_normalizations_are_native_in_engines_that_travel(
    bench: Bench, pretend_gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch, options: EngineOptions, native: bool
) -> None:
    """TensorRT 10 does that by default, 8.6.1 only when told; what counts is that we tell it."""
    pretend_gpu()
    import tensorrt as trt

    told: list[Any] = []
    monkeypatch.setattr(trt.OnnxParser, "set_flag", lambda self, flag: told.append(flag))
    Configured(bench, "10.16", options)
    assert told == ([trt.OnnxParserFlag.NATIVE_INSTANCENORM] if native else [])


def _entries(cache: bytes) -> set[str]:
    """Names of timed layers in a fake timing cache."""
    return set(json.loads(cache[cache.index(b"{") :])["entries"])
