"""What the compiler refuses is found by halves, and put back; played by a compiler that refuses what it is told."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.networks import residual_cnn
from tests.prepared import normal, prepare
from trt_mpq.emit import Network
from trt_mpq.engine import compiling
from trt_mpq.engine.bisection import groups_at_fault
from trt_mpq.engine.compiling import PlanCompiler, capabilities_for
from trt_mpq.latency.target import target_from_name
from trt_mpq.runtime.tensorrt.request import BuildRequest
from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import AheadOfTime, BuildStatus, EngineBuild

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
GROUPS = [f"g{number}" for number in range(23)]


@given(st.sets(st.sampled_from(GROUPS), min_size=1))
def test_groups_that_are_refused_alone_are_found_and_no_others(bad: set[str]) -> None:
    assert groups_at_fault(GROUPS, lambda lowered: bad.isdisjoint(lowered)) == [g for g in GROUPS if g in bad]


@given(st.sets(st.frozensets(st.sampled_from(GROUPS), min_size=1, max_size=3), min_size=1, max_size=4))
def test_of_groups_that_are_refused_together_as_few_are_left_out_as_it_takes(bad: set[frozenset[str]]) -> None:
    def accepts(lowered: Collection[str]) -> bool:
        return not any(together <= set(lowered) for together in bad)

    refused = groups_at_fault(GROUPS, accepts)
    kept = [group for group in GROUPS if group not in refused]
    assert accepts(kept)
    assert not any(accepts([*kept, group]) for group in refused), "one of them need not be left out"


def test_few_questions_are_asked() -> None:
    asked: list[int] = []

    def accepts(lowered: Collection[str]) -> bool:
        asked.append(len(lowered))
        return "g11" not in lowered

    assert groups_at_fault([f"g{number}" for number in range(128)], accepts) == ["g11"]
    assert len(asked) <= 14


@pytest.mark.parametrize(
    ("sm", "held", "portable", "expected"),
    [
        (89, {FP16, INT8}, False, (89,)),
        (121, {FP16, FP8}, False, (121,)),
        (75, {FP16, INT8}, False, (75,)),
        (90, {FP16, FP8}, False, (89,)),
        (87, {FP16, INT8}, False, (86,)),
        (110, {FP16, FP8}, False, (89,)),
        (100, {FP16, INT8}, False, (89,)),
        (87, {FP16, FP8}, False, (89,)),
        (89, {FP16, INT8}, True, (80, 86, 89, 120, 121)),
        (75, {FP16, INT8}, True, (75, 80, 86, 89, 120, 121)),
        (120, {FP16, FP8}, True, (89, 120, 121)),
    ],
)
def test_a_gpu_is_compiled_for_itself_or_checked_for_the_nearest_with_the_formats(
    sm: int, held: set[Precision], portable: bool, expected: tuple[int, ...]
) -> None:
    assert capabilities_for(sm, held, portable=portable) == expected


class Played:
    """A compiler that refuses networks by what it finds in them; the networks it saw are counted."""

    def __init__(self, refuses: Callable[[onnx.ModelProto], str]) -> None:
        self.refuses, self.seen = refuses, 0

    def __call__(self, request: BuildRequest, folder: Path) -> EngineBuild:
        self.seen += 1
        made_for = AheadOfTime("1.7", request.capabilities)
        if said := self.refuses(onnx.load(request.onnx)):
            return EngineBuild(BuildStatus.FAILED, "strong", 0.1, platform=made_for, errors=(said,), reason=said)
        (folder / Path(request.engine).name).write_bytes(b"engine")
        return EngineBuild(BuildStatus.BUILT, "strong", 0.1, engine=request.engine, size_bytes=6, platform=made_for)


def quantized(model: onnx.ModelProto) -> set[str]:
    """Nodes that read what was dequantized."""
    made = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name for node in model.graph.node if made & set(node.input)}


@pytest.fixture(scope="module")
def network() -> Network:
    prepared = prepare(residual_cnn())
    return prepared.network(prepared.samples(normal(8, 3, 16, 16)))


def compiler(network: Network, played: Played, patch: pytest.MonkeyPatch, device: str = "l4") -> PlanCompiler:
    patch.setattr(compiling, "build_engine", played)
    return PlanCompiler(network.emitter(), {}, EngineOptions(), target_from_name(device))


def test_a_plan_that_is_taken_is_compiled_once(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played = Played(lambda model: "")
    groups = network.grouping
    done = compiler(network, played, monkeypatch).repaired(
        groups.uniform(INT8), groups.uniform(FP16), tmp_path / "a.onnx"
    )
    assert (done.build.built, done.compiled, done.raised, done.refusal) == (True, 1, {}, "")
    assert (done.device, done.sm, done.capabilities, done.for_device) == ("l4", 89, (89,), True)
    assert played.seen == 1


def test_what_has_no_8_bit_kernel_is_told(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups = network.grouping
    on_turing = compiler(network, Played(lambda model: ""), monkeypatch, "t4")
    convolutions = sum(group.op_type == "Conv" for group in groups.groups)
    done = on_turing.outcome(groups.uniform(INT8), tmp_path / "a.onnx")
    assert done.notes == (
        "TensorRT for RTX has no 8-bit Conv for compute capability 7.5: its engine runs "
        f"{convolutions} of the quantized groups in 16 bit there",
    )
    assert on_turing.outcome(groups.uniform(FP16), tmp_path / "a.onnx").notes == ()


def test_refused_groups_go_back_and_the_rest_stays_lowered(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = {"block1.conv2", "block2.shortcut"}
    played = Played(lambda model: "no kernel" if bad & quantized(model) else "")
    groups, path = network.grouping, tmp_path / "a.onnx"
    done = compiler(network, played, monkeypatch).repaired(groups.uniform(INT8), groups.uniform(FP16), path)
    assert done.build.built
    assert done.raised == dict.fromkeys(bad, INT8)
    assert done.refusal == "no kernel"
    assert done.compiled == played.seen
    assert not bad & quantized(onnx.load(path)), "the network that was compiled last is the repaired one"
    assert "block1.conv1" in quantized(onnx.load(path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.onnx", "a.plan"]


def test_where_high_precision_is_refused_too_no_group_is_blamed(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played, groups = Played(lambda model: "no such operator"), network.grouping
    done = compiler(network, played, monkeypatch).repaired(
        groups.uniform(INT8), groups.uniform(FP16), tmp_path / "a.onnx"
    )
    assert (done.build.refused, done.raised, done.compiled) == (True, {}, 2)
    assert done.notes == ("it is refused with every group in high precision too, so no group is at fault",)


def test_the_search_for_the_refused_ends_and_what_was_not_decided_goes_back(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiling, "_MOST_COMPILATIONS", 3)
    played, groups = Played(lambda model: "no" if quantized(model) else ""), network.grouping
    done = compiler(network, played, monkeypatch).repaired(
        groups.uniform(INT8), groups.uniform(FP16), tmp_path / "a.onnx"
    )
    assert done.build.built
    assert set(done.raised) == {group for group, precision in groups.uniform(INT8).assignments if precision is INT8}
    assert done.compiled == played.seen <= 5


@pytest.mark.parametrize("status", [BuildStatus.CRASHED, BuildStatus.TIMED_OUT, BuildStatus.OUT_OF_MEMORY])
def test_a_compiler_that_did_not_finish_blames_nobody(
    network: Network, status: BuildStatus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    groups = network.grouping
    failing = compiler(network, Played(lambda model: ""), monkeypatch)
    failed = EngineBuild(status, "strong", 0.1, reason="it died")
    monkeypatch.setattr(compiling, "build_engine", lambda request, folder: failed)
    done = failing.repaired(groups.uniform(INT8), groups.uniform(FP16), tmp_path / "a.onnx")
    assert (done.build, done.raised, done.compiled) == (failed, {}, 1)


def test_a_device_that_is_not_served_is_only_checked(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checked = compiler(network, Played(lambda model: ""), monkeypatch, device="h200")
    done = checked.outcome(network.grouping.uniform(INT8), tmp_path / "a.onnx")
    assert (done.sm, done.capabilities, done.for_device) == (90, (89,), False)
    portable = replace(checked, options=EngineOptions(portable=True))
    assert not portable.outcome(network.grouping.uniform(INT8), tmp_path / "a.onnx").for_device
