from __future__ import annotations

import pytest

from tests.fixtures_groups import make_chain, make_group, make_grouping
from trt_mpq.errors import RuntimeFailure
from trt_mpq.latency.dataflow import Dataflow
from trt_mpq.latency.probing import Observation, ProbedEngine, Profiling, observe
from trt_mpq.types import LayerGroup, Precision, PrecisionPlan
from trt_mpq.types.engine import EngineLayer, EngineTensor, LayerRole

CHAIN = (*make_chain(2), make_group("g2", ["g1.out"], flops=3000))
AS_IT_IS = Profiling(0.0, 1.0)


def layer(name: str, role: LayerRole, groups: tuple[str, ...] = (), *tensors: EngineTensor) -> EngineLayer:
    return EngineLayer(name, "layer", role, groups, (), tensors[:1], tensors[1:])


def tensor(datatype: str, *shape: int) -> EngineTensor:
    return EngineTensor("t", datatype, "linear", shape)


def observed(
    layers: list[EngineLayer],
    times: dict[str, float],
    groups: tuple[LayerGroup, ...] = CHAIN,
    profiling: Profiling = AS_IT_IS,
) -> Observation:
    plan = PrecisionPlan.uniform(groups, Precision.INT8, Precision.FP16)
    engine = ProbedEngine(plan, 1.0, tuple(layers), times)
    return observe(engine, Dataflow(make_grouping(groups)), groups, 4, profiling)


def test_every_time_has_one_place():
    layers = [layer("a", "group", ("g0",)), layer("b", "group", ("g1",)), layer("r", "reformat"), layer("o", "other")]
    seen = observed([*layers, layer("q", "quantize")], {"a": 1.0, "b": 2.0, "r": 0.25, "q": 0.5, "o": 4.0, "?": 0.25})
    assert seen.group_ms == {"g0": 1.0, "g1": 2.0}
    assert seen.conversions == ((0.25, None), (0.5, None))
    assert seen.other_ms == 4.25, "a time without a layer is of no group"
    assert [seen.hides(name) for name in ("g0", "g1", "g2")] == [False, False, True]
    assert [r.tensor for r in seen.asked] == ["x"]


def test_shared_layer_is_divided_by_arithmetic():
    assert observed([layer("a", "group", ("g1", "g2"))], {"a": 2.0}).group_ms == {"g1": 0.5, "g2": 1.5}


def test_shared_layer_without_arithmetic_is_divided_evenly():
    idle = tuple(make_group(f"g{i}", flops=0) for i in range(2))
    assert observed([layer("a", "group", ("g0", "g1"))], {"a": 2.0}, idle).group_ms == {"g0": 1.0, "g1": 1.0}


def test_shared_layer_of_several_precisions_is_blurred():
    chain = (*CHAIN[:2], make_group("g2", ["g1.out"], excluded={Precision.INT8: "small"}))
    layers = [layer("a", "group", ("g0", "g1")), layer("b", "group", ("g1", "g2"))]
    assert observed(layers[:1], {"a": 1.0}, chain).blurred == frozenset()
    assert observed(layers, {"a": 1.0, "b": 1.0}, chain).blurred == {"g1", "g2"}


def test_group_in_several_layers_is_their_sum():
    layers = [layer("a", "group", ("g0",)), layer("b", "group", ("g0",))]
    assert observed(layers, {"a": 1.0, "b": 2.0}).group_ms == {"g0": 3.0}


@pytest.mark.parametrize("times", [{"o": 1.0}, {"o": 1.0, "a": 0.0}])
def test_layer_without_time_hides_its_group(times: dict[str, float]):
    assert observed([layer("a", "group", ("g0",)), layer("o", "other")], times).hides("g0")


@pytest.mark.parametrize(
    ("tensors", "moved"),
    [
        ((tensor("fp16", 2, 10), tensor("int8", 2, 10)), 60.0),
        ((tensor("fp32", -1, 10), tensor("fp8", -1, 10)), 4 * 50.0),
        ((tensor("fp32", 3), tensor("bf16", 3), tensor("int64", 3)), 3 * 14.0),
        ((tensor("fp32", 4, -1), tensor("int8", 4, 10)), None),
        ((tensor("unknown", 4), tensor("int8", 4)), None),
        ((tensor("fp32", 4),), None),
    ],
)
def test_bytes_of_a_conversion(tensors: tuple[EngineTensor, ...], moved: float | None):
    seen = observed([layer("r", "reformat", (), *tensors)], {"r": 0.5})
    assert seen.conversions == ((0.5, moved),)


def test_overhead_of_profiling_is_taken_off_every_layer():
    layers = [layer("a", "group", ("g0", "g1")), layer("r", "reformat"), layer("o", "other")]
    seen = observed(layers, {"a": 5.0, "r": 2.0, "o": 1.0}, profiling=Profiling(1.0, 1.0))
    assert seen.group_ms == {"g0": 2.0, "g1": 2.0}
    assert seen.conversions == ((1.0, None),)
    assert seen.other_ms == pytest.approx(0.1), "a tenth stays"


def timed(gpu_ms: float, *layers: float) -> ProbedEngine:
    return ProbedEngine(PrecisionPlan(()), gpu_ms, (), {str(i): ms for i, ms in enumerate(layers)})


class TestProfiling:
    def test_a_factor(self):
        assert Profiling.of([timed(2.0, 1.0, 3.0), timed(3.0, 6.0), timed(1.0, 0.5, 0.5, 1.0)]) == Profiling(0.0, 0.5)

    def test_a_constant_per_layer(self):
        found = Profiling.of([timed(3.0, 1.5, 2.5), timed(5.5, 6.0), timed(0.5, 0.5, 0.5, 1.0, 0.0)])
        assert found == Profiling(0.5, 1.0)

    def test_layers_that_take_longer_together(self):
        assert Profiling.of([timed(5.0, 1.5, 2.5), timed(6.5, 6.0)]) == Profiling(-0.5, 1.0)

    def test_one_engine_cannot_tell(self):
        assert Profiling.of([timed(3.0, 1.5, 2.5)]) == Profiling(0.0, 0.75)

    @pytest.mark.parametrize("engine", [timed(1.0), timed(1.0, 0.0), timed(0.0, 1.0)])
    def test_engine_without_times_is_refused(self, engine: ProbedEngine):
        with pytest.raises(RuntimeFailure, match="no times for the layers"):
            Profiling.of([timed(1.0, 1.0), engine])
