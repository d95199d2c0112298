from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path

import onnx_ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_groups import make_chain, make_group, make_grouping, make_loose
from tests.latency.test_target import SHIPPED
from trt_mpq.errors import SettingsError
from trt_mpq.groups import groups_from_model
from trt_mpq.latency.kernels import Reformat
from trt_mpq.latency.roofline import LatencyModel, Traits
from trt_mpq.latency.size import stored_bits, weight_bytes
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Grouping, Precision, PrecisionPlan, QuantizedInput, Target

FP32, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
W8A16, W4A16, NVFP4 = Precision.W8A16, Precision.W4A16, Precision.NVFP4

# 1 TOPS, 1 GB/s, perfect efficiency and no cache: a thousand operations take 1 ns, a byte takes 1 ns.
UNIT = Target(
    "unit", "", 100, {FP32: 0.5, FP16: 1.0, BF16: 1.0, FP8: 2.0, INT8: 2.0, NVFP4: 4.0}, bandwidth_gb_s=1.0,
    launch_us=1.0, compute_efficiency=1.0, memory_efficiency=1.0, eight_bit_efficiency=1.0, multiprocessors=1,
    clock_ghz=1.0, l2_mb=1e-9, sources={},
)  # fmt: skip
IDEAL = Traits(
    cuda_share=1.0, depthwise_share=1.0, attention_16=1.0, attention_8=1.0, narrow_share=1.0, padding=0.0, tile=0.0,
    overlap=inf,
)  # fmt: skip
NS = 1e-6
LAUNCH_MS = 1e-3
ORIN = target_from_name("orin-agx")


def ideal(grouping: Grouping, target: Target, batch: int) -> LatencyModel:
    """The roofline and the rules of the dataflow, without what was fitted."""
    return LatencyModel(grouping, target, batch, traits=IDEAL)


def all_in(grouping: Grouping, precision: Precision) -> PrecisionPlan:
    return PrecisionPlan.of({group.id: precision for group in grouping.groups})


def converted(model: LatencyModel, plan: PrecisionPlan) -> list[tuple[str, Precision, Precision, str]]:
    return [(r.tensor, r.stored, r.wanted, r.reader) for r in model.reformats(plan)]


class TestRoofline:
    def test_compute_bound_group(self):
        grouping = make_grouping([make_group("g", flops=10_000_000)])
        model = ideal(grouping, UNIT, 3)
        cast_ns = 3 * 100 * (4 + 1)
        expected = 3 * 10_000_000 / 2000 + cast_ns
        assert model.plan_ms(all_in(grouping, INT8)) == pytest.approx(expected * NS + 2 * LAUNCH_MS)

    def test_memory_bound_group(self):
        grouping = make_grouping([make_group("g", flops=0, weights=50, input_elements=7, output_elements=11)])
        model = ideal(grouping, UNIT, 3)
        read, written, weights, cast = 3 * 7 * 1, 3 * 11 * 2, 50 * 1, 3 * 7 * (4 + 1)
        expected = read + written + weights + cast
        assert model.plan_ms(all_in(grouping, INT8)) == pytest.approx(expected * NS + 2 * LAUNCH_MS)

    def test_fp32_needs_no_conversion(self):
        grouping = make_grouping([make_group("g", flops=0, weights=50, input_elements=7, output_elements=11)])
        model = ideal(grouping, UNIT, 1)
        assert model.plan_ms(all_in(grouping, FP32)) == pytest.approx(4 * (7 + 11 + 50) * NS + LAUNCH_MS)

    def test_efficiency_slows_down(self):
        lazy = replace(UNIT, launch_us=0.0, compute_efficiency=0.5, eight_bit_efficiency=0.25, memory_efficiency=0.25)
        heavy, wide = make_group("heavy", flops=10**9), make_group("wide", flops=0)
        for precision, ns in ((FP16, 2e6), (INT8, 2e6)):
            times = ideal(make_grouping([heavy]), lazy, 1).group_ms(PrecisionPlan.of({"heavy": precision}))
            assert times == {"heavy": pytest.approx(ns * NS, rel=1e-2)}
        assert ideal(make_grouping([wide]), lazy, 1).group_ms(PrecisionPlan.of({"wide": FP32})) == {
            "wide": pytest.approx(4 * 840 * NS)
        }

    def test_loose_op_streams_in_half(self):
        grouping = make_grouping([make_group("g")], [make_loose("add", ["g.out", "g.out"])])
        model, plan = ideal(grouping, UNIT, 2), all_in(grouping, FP16)
        loose = model.plan_ms(plan) - sum(model.group_ms(plan).values())
        assert loose == pytest.approx(2 * 300 * 2 * NS + LAUNCH_MS)

    def test_int4_is_modelled_as_int8_with_half_the_bytes(self):
        grouping = make_grouping([make_group("g", flops=0, weights=50), make_group("h", ["g.out"], flops=0)])
        times = {p: ideal(grouping, UNIT, 1).group_ms(all_in(grouping, p))["g"] for p in (INT8, INT4)}
        fewer_bytes = (50 + 100 + 100 + 100) / 2  # weights, input, output and what the input conversion writes
        assert times[INT8] - times[INT4] == pytest.approx(fewer_bytes * NS)
        heavy = make_grouping([make_group("g", flops=10**10)])
        assert ideal(heavy, UNIT, 1).plan_ms(all_in(heavy, INT4)) == pytest.approx(
            ideal(heavy, UNIT, 1).plan_ms(all_in(heavy, INT8)), rel=1e-3
        )


class TestBoundaries:
    def model(self, *parts: object, **more: object) -> LatencyModel:
        return ideal(make_grouping(*parts, **more), UNIT, 1)  # type: ignore[arg-type]

    def test_quantize_fuses_between_groups_of_one_format(self):
        model = self.model(make_chain(3))
        plan = PrecisionPlan.of(dict.fromkeys(["g0", "g1", "g2"], INT8))
        assert converted(model, plan) == [("x", FP32, INT8, "g0")]

    def test_quantize_after_a_half_group_is_a_kernel_of_its_own(self):
        model = self.model(make_chain(2))
        plan = PrecisionPlan.of({"g0": FP16, "g1": INT8})
        assert converted(model, plan) == [("x", FP32, FP16, "g0"), ("g0.out", FP16, INT8, "g1")]
        assert model.reformats(plan)[1] == Reformat("g0.out", 100, FP16, INT8, "g1")
        expected = 10 * 1 + 100 * 1 + 100 * 2 + 100 * (2 + 1)  # weights, input, output, conversion
        assert model.group_ms(plan)["g1"] == pytest.approx(expected * NS + 2 * LAUNCH_MS)

    def test_dequantize_is_free_in_the_epilogue(self):
        plan = PrecisionPlan.of({"g0": INT8, "g1": FP16})
        assert converted(self.model(make_chain(2)), plan) == [("x", FP32, INT8, "g0")]

    def test_between_two_8_bit_formats_the_tensor_is_stored_in_half(self):
        plan = PrecisionPlan.of({"g0": INT8, "g1": FP8})
        assert converted(self.model(make_chain(2)), plan)[1:] == [("g0.out", FP16, FP8, "g1")]

    def test_casts_between_float_formats(self):
        plan = PrecisionPlan.of({"g0": FP32, "g1": FP16, "g2": FP32})
        conversions = converted(self.model(make_chain(3)), plan)
        assert conversions == [("g0.out", FP32, FP16, "g1"), ("g1.out", FP16, FP32, "g2")]

    def test_unquantized_reader_forces_a_conversion_for_the_others_once(self):
        groups = [make_group("a"), *(make_group(name, ["a.out"]) for name in ("b", "c", "d"))]
        plan = PrecisionPlan.of({"a": INT8, "b": FP16, "c": INT8, "d": INT8})
        assert converted(self.model(groups), plan)[1:] == [("a.out", FP16, INT8, "c")]

    def test_quantized_residual_needs_no_conversion(self):
        groups = [make_group("a"), make_group("b", ["a.out"]), make_group("c", ["b.out", "a.out"], input_elements=200)]
        model = self.model(groups)
        assert converted(model, PrecisionPlan.of(dict.fromkeys("abc", INT8))) == [("x", FP32, INT8, "a")]
        mixed = PrecisionPlan.of({"a": INT8, "b": FP16, "c": INT8})
        assert converted(model, mixed)[1:] == [("b.out", FP16, INT8, "c"), ("a.out", FP16, INT8, "c")]

    def test_attention_reads_three_tensors_of_one_group_and_keeps_its_probabilities(self):
        joint = replace(make_group("qkv"), writes={"q": 100, "k": 50, "v": 50})
        inside = QuantizedInput("p", "pv", 0, "probabilities")
        reads = make_group("attention", ["q", "k", "v"], weights=0, input_elements=200)
        attention = replace(reads, weights=(), inputs=(*reads.inputs, inside))
        model = self.model([joint, attention])
        assert converted(model, PrecisionPlan.of({"qkv": INT8, "attention": INT8})) == [("x", FP32, INT8, "qkv")]
        plan = PrecisionPlan.of({"qkv": FP16, "attention": FP8})
        assert [entry[0] for entry in converted(model, plan)] == ["x", "q", "k", "v"]
        assert [r.elements for r in model.reformats(plan)] == [100, 100, 50, 50]
        assert not model.flow.formats(PrecisionPlan.of({"qkv": INT8, "attention": INT8})).widens(joint)
        assert model.flow.formats(PrecisionPlan.of({"qkv": INT8, "attention": FP16})).widens(joint)
        moved = 200 * 1 + 100 * 2  # no weights: three operands in 8 bit, the result in half
        times = model.group_ms(PrecisionPlan.of({"qkv": INT8, "attention": INT8}))
        assert times["attention"] == pytest.approx(moved * NS + LAUNCH_MS)

    def test_every_result_of_a_split_has_the_format_of_what_it_takes_apart(self):
        split = replace(make_loose("split", ["a.out"], op_type="Split"), writes={"b": 40, "c": 60})
        groups = [make_group("a"), make_group("d", ["b"]), make_group("e", ["c"])]
        model = self.model(groups, [split], [("a.out", "b", "c")])
        assert converted(model, PrecisionPlan.of(dict.fromkeys("ade", INT8))) == [("x", FP32, INT8, "a")]
        untied = self.model(groups, [split])
        plan = PrecisionPlan.of(dict.fromkeys("ade", INT8))
        assert [(r.tensor, r.elements) for r in untied.reformats(plan)][1:] == [("b", 40), ("c", 60)]

    def test_loose_op_on_either_side_works_in_half(self):
        parts = [make_group("a"), make_group("b", ["softmax.out"])], [make_loose("softmax", ["a.out"])]
        plan = PrecisionPlan.of({"a": INT8, "b": INT8})
        assert converted(self.model(*parts), plan)[1:] == [("softmax.out", FP16, INT8, "b")]

    @pytest.mark.parametrize(("op_type", "moved", "launches"), [("LayerNormalization", 100, 0), ("Resize", 300, 1)])
    def test_a_normalization_writes_its_result_quantized_too(self, op_type: str, moved: int, launches: int):
        parts = [make_group("a"), make_group("b", ["norm.out"])], [make_loose("norm", ["a.out"], op_type=op_type)]
        model, plan = self.model(*parts), PrecisionPlan.of({"a": FP16, "b": INT8})
        assert converted(model, plan)[1:] == [("norm.out", FP16, INT8, "b")]
        expected = 10 + 100 + 200 + moved  # weights, input, output, conversion
        assert model.group_ms(plan)["b"] == pytest.approx(expected * NS + (1 + launches) * LAUNCH_MS)

    def test_loose_op_after_fp32_group_pays_its_own_cast(self):
        parts = [make_group("a"), make_group("b", ["add.out"])], [make_loose("add", ["a.out"])]
        model, plan = self.model(*parts), PrecisionPlan.of({"a": FP32, "b": FP16})
        assert converted(model, plan) == [("a.out", FP32, FP16, "add")]
        assert sum(model.group_ms(plan).values()) < model.plan_ms(plan)

    def test_views_are_the_tensor_they_look_at(self):
        views = [
            make_loose("flat", ["a.out"], op_type="Flatten"),
            make_loose("shape", ["flat.out"], op_type="Reshape"),
        ]
        groups = [make_group("a"), make_group("b", ["shape.out"]), make_group("c", ["a.out"])]
        model, plan = self.model(groups, views), PrecisionPlan.of(dict.fromkeys("abc", INT8))
        assert converted(model, plan) == [("x", FP32, INT8, "a")]
        assert model.plan_ms(plan) == pytest.approx(sum(model.group_ms(plan).values()))
        late = PrecisionPlan.of({"a": FP16, "b": INT8, "c": INT8})
        assert converted(model, late)[1:] == [("a.out", FP16, INT8, "b")]

    def test_tied_op_passes_8_bit_through(self):
        groups, pool = (
            [make_group("a"), make_group("b", ["pool.out"])],
            [make_loose("pool", ["a.out"], op_type="MaxPool")],
        )
        tied = self.model(groups, pool, ties=[("a.out", "pool.out")])
        plan = PrecisionPlan.of({"a": INT8, "b": INT8})
        assert converted(tied, plan) == [("x", FP32, INT8, "a")]
        saved = 100 * 1 + (100 + 100) * 1 + 100 * (2 + 1)  # a writes less, the pool moves less, no conversion
        untied = self.model(groups, pool)
        assert untied.plan_ms(plan) - tied.plan_ms(plan) == pytest.approx(saved * NS + LAUNCH_MS)

    def test_constant_operand_of_a_loose_op_is_no_tensor(self):
        groups = [make_group("a"), make_group("b", ["pad.out"])]
        pad = [make_loose("pad", ["a.out", "zero"], op_type="Pad")]
        plan = PrecisionPlan.of({"a": INT8, "b": INT8})
        assert converted(self.model(groups, pad), plan)[1:] == [("pad.out", FP16, INT8, "b")]
        assert converted(self.model(groups, pad, ties=[("a.out", "pad.out")]), plan)[1:] == []

    def test_op_on_the_network_input_does_not_hide_its_quantization(self):
        parts = [make_group("a", ["transposed.out"])], [make_loose("transposed", ["x"], op_type="Transpose")]
        plan = PrecisionPlan.of({"a": INT8})
        assert converted(self.model(*parts), plan) == [("transposed.out", FP16, INT8, "a")]
        tied = self.model(*parts, ties=[("x", "transposed.out")])
        assert ("transposed.out", FP16, INT8, "a") in converted(tied, plan)

    @pytest.mark.parametrize("odd", ["a", "b", "c"])
    def test_concat_passes_8_bit_through_only_if_all_agree(self, odd: str):
        groups = [make_group("a"), make_group("b"), make_group("c", ["concat.out"])]
        concat = [make_loose("concat", ["a.out", "b.out"], op_type="Concat")]
        model = self.model(groups, concat, ties=[("a.out", "b.out", "concat.out")])
        agreed = PrecisionPlan.of(dict.fromkeys("abc", FP8))
        assert converted(model, agreed) == [("x", FP32, FP8, "a")]
        after_input = [c for c in converted(model, agreed.replace({odd: FP16})) if c[0] != "x"]
        assert after_input == ([] if odd == "c" else [("concat.out", FP16, FP8, "c")])

    def test_size_of_a_network_input_is_what_the_other_operands_leave(self):
        groups = [make_group("a"), make_group("b", ["y", "a.out"], input_elements=160)]
        reformats = self.model(groups).reformats(PrecisionPlan.of({"a": INT8, "b": INT8}))
        assert {r.tensor: r.elements for r in reformats} == {"x": 100, "y": 60}


@pytest.mark.data
def test_quantized_resnet_converts_its_input_and_nothing_else(data_dir: Path):
    model = onnx_ir.load(data_dir / "cifar10" / "resnet20.onnx")
    grouping = groups_from_model(model, {"input": (1, 3, 32, 32)}, "none")
    latency, plan = LatencyModel(grouping, target_from_name("l4"), 32), all_in(grouping, INT8)
    assert [(r.tensor, r.elements) for r in latency.reformats(plan) if r.reader == grouping.groups[0].id] == [
        ("input", 3 * 32 * 32)
    ]
    others = [r.reader for r in latency.reformats(plan)[1:]]
    assert set(others) <= {grouping.groups[-1].id}, "only the classifier, behind the mean, quantizes what it reads"
    assert latency.plan_ms(plan) < latency.plan_ms(all_in(grouping, FP16)) < latency.plan_ms(all_in(grouping, FP32))


class TestRefusals:
    def test_precision_the_gpu_lacks(self):
        grouping = make_grouping(make_chain(1))
        model = LatencyModel(grouping, ORIN, 1)
        with pytest.raises(
            SettingsError, match=r"orin-agx \(SM 87\) cannot compute in fp8: .*fp32, fp16, bf16, w8a16, int8, w4a16"
        ):
            model.plan_ms(all_in(grouping, FP8))
        assert model.plan_ms(all_in(grouping, INT4)) > 0
        assert [model.knows(all_in(grouping, p)) for p in (FP16, FP8, INT4)] == [True, False, True]

    @pytest.mark.parametrize(("precision", "sm"), [(W8A16, 80), (W4A16, 100), (FP8, 120)])
    def test_products_of_one_tensor_are_a_kernel_each_where_the_compiler_keeps_them_apart(
        self, precision: Precision, sm: int
    ):
        """As NVIDIA's compiler makes them (`bench/results/README.md`); in other formats they are one product."""
        sides = [make_group(name, flops=3000, weights=60, input_elements=50, output_elements=20) for name in "qkv"]
        alone = make_grouping([replace(side, inputs=sides[0].inputs) for side in sides])
        whole = make_group("qkv", flops=9000, weights=180, input_elements=50, output_elements=60)
        weights = tuple(replace(side.weights[0], name=side.id) for side in sides)
        joint = make_grouping([replace(whole, weights=weights)])
        apart, merged = (ideal(grouping, replace(UNIT, sm=sm), 4) for grouping in (alone, joint))
        assert merged.plan_ms(all_in(joint, precision)) == pytest.approx(apart.plan_ms(all_in(alone, precision)))
        assert merged.plan_ms(all_in(joint, FP16)) < apart.plan_ms(all_in(alone, FP16)) - 1.9 * LAUNCH_MS
        before = merged.on(replace(UNIT, sm=min(sm, 119)), IDEAL).plan_ms(all_in(joint, precision))
        assert (before < merged.plan_ms(all_in(joint, precision)) - 1.9 * LAUNCH_MS) == (precision is FP8)

    def test_empty_batch(self):
        with pytest.raises(SettingsError, match="at least 1 sample, got 0"):
            LatencyModel(make_grouping(make_chain(1)), ORIN, 0)


class TestWeightBytes:
    GROUPING = make_grouping([make_group("a", weights=100), make_group("b", weights=7)])

    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            (FP32, FP32, 4 * 107 + 4 * 5),
            (FP16, FP16, 2 * 107 + 2 * 5),
            (INT8, FP16, 100 + 2 * 7 + 2 * 5),
            (FP32, FP8, 4 * 100 + 7 + 2 * 5),
            (INT4, INT4, 54 + 2 * 5),
            (W8A16, W8A16, 107 + 2 * 5),
            (NVFP4, W4A16, 56 + 4 + 2 * 5),
        ],
    )
    def test_sizes(self, a: Precision, b: Precision, expected: int):
        assert weight_bytes(PrecisionPlan.of({"a": a, "b": b}), self.GROUPING, 5) == expected

    @pytest.mark.parametrize(
        ("a", "b", "expected"), [(FP16, FP16, (200, 0)), (INT8, INT8, (100, 0)), (INT8, FP16, (100, 200))]
    )
    def test_a_weight_that_two_groups_read_is_stored_once_in_every_precision(
        self, a: Precision, b: Precision, expected: tuple[int, int]
    ):
        first, second = make_group("a", weights=100), make_group("b")
        grouping = make_grouping([first, replace(second, weights=first.weights)])
        plan = PrecisionPlan.of({"a": a, "b": b})
        assert weight_bytes(plan, grouping, 0) == sum(expected)
        assert stored_bits(plan, grouping) == {"a": 8 * expected[0], "b": 8 * expected[1]}


@st.composite
def networks(draw: st.DrawFn, *, loose: bool = True) -> Grouping:
    """Directed acyclic networks of groups and untied loose ops, tensors of different sizes."""
    sizes = {"x": draw(st.integers(1, 10_000))}
    groups, ops = [], []
    for i in range(draw(st.integers(1, 8))):
        reads = draw(st.lists(st.sampled_from(sorted(sizes)), min_size=1, max_size=2, unique=True))
        size = draw(st.integers(1, 10_000))
        if loose and draw(st.booleans()):
            op = make_loose(f"n{i}", reads)
            ops.append(type(op)(op.node, op.op_type, op.inputs, {op.output: size}, sum(sizes[t] for t in reads)))
        else:
            amounts = {name: draw(st.integers(1, 10**7)) for name in ("weights", "flops")}
            elements = {"input_elements": sum(sizes[t] for t in reads), "output_elements": size}
            groups.append(make_group(f"n{i}", reads, index=i, **amounts, **elements))
        sizes[f"n{i}.out"] = size
    return make_grouping(groups, ops)


def plans(grouping: Grouping) -> st.SearchStrategy[PrecisionPlan]:
    choices = {group.id: st.sampled_from(Precision) for group in grouping.groups}
    return st.fixed_dictionaries(choices).map(PrecisionPlan.of)


@st.composite
def planned_networks(draw: st.DrawFn) -> tuple[Grouping, PrecisionPlan]:
    grouping = replace(draw(networks()), top=draw(st.sampled_from([FP16, BF16])))
    return grouping, draw(plans(grouping))


def one_kernel(grouping: Grouping) -> list[set[str]]:
    """Ops outside groups, which are all pointwise, that are one kernel: neighbours with equally many kernels before."""
    reads = {g.id: [i.tensor for i in g.inputs] for g in grouping.groups} | {o.node: o.inputs for o in grouping.loose}
    loose, writer = {o.node for o in grouping.loose}, {f"{name}.out": name for name in reads}

    def level(name: str) -> int:
        before = [writer[tensor] for tensor in reads[name] if tensor in writer]
        return max((level(other) + (not {name, other} <= loose) for other in before), default=0)

    sets = [{name} for name in loose]
    for name in loose:
        for other in (writer[tensor] for tensor in reads[name] if writer.get(tensor) in loose):
            if level(name) == level(other):
                one, two = (next(s for s in sets if n in s) for n in (name, other))
                if one is not two:
                    sets.remove(two)
                    one |= two
    return sets


def reference_ms(grouping: Grouping, plan: Mapping[str, Precision], target: Target, batch: int) -> float:
    """The documented rules, tensor by tensor, for networks without views and ties whose loose ops are all Adds."""
    bits = {FP32: 32, FP16: 16, BF16: 16, FP8: 8, INT8: 8, INT4: 4, NVFP4: 4.5}
    stored_weights = {**bits, W8A16: 8, W4A16: 4 + 16 / 128}
    weights_of, plan = plan, {g: grouping.top if p in (W8A16, W4A16) else p for g, p in plan.items()}
    high = FP32 if plan and all(p is FP32 for p in weights_of.values()) else grouping.top
    ops = {o.node: o for o in grouping.loose}
    known = {t for g in grouping.groups for t in (g.output, *g.reads)} | {o.output for o in grouping.loose}
    # What each kernel reads, writes, computes and is in.
    kernels = [([i.tensor for i in g.inputs], {g.output: g.output_elements}, g, plan[g.id]) for g in grouping.groups]
    for names in one_kernel(grouping):
        own = {ops[name].output: ops[name].output_elements for name in names}
        outside = [t for g in grouping.groups for t in g.reads] + [
            t for n in ops if n not in names for t in ops[n].inputs
        ]
        inside = [t for n in names for t in ops[n].inputs]
        read = [t for t in dict.fromkeys(inside) if t not in own and t in known]
        written = {t: count for t, count in own.items() if t in outside or t not in inside}
        elements = sum(ops[n].input_elements for n in names) - sum(own.get(t, 0) for t in inside)
        kernels.append((read, written, elements, high))
    stored, size = {}, {}
    for tensor in {"x", *(t for _, written, _, _ in kernels for t in written)}:
        maker = next((k for k in kernels if tensor in k[1]), None)
        readers = [k[3] for k in kernels if tensor in k[0]]
        stored[tensor] = FP32 if maker is None else grouping.top if bits[maker[3]] <= 8 else maker[3]
        size[tensor] = maker[1][tensor] if maker else 0
        if maker and maker[3] in (FP8, INT8, INT4) and readers and all(r is maker[3] for r in readers):
            stored[tensor] = maker[3]
    for read, _, work, _ in kernels:
        if "x" in read:
            elements = work if isinstance(work, int) else work.input_elements
            size["x"] = elements - sum(size[t] for t in read if t != "x")
            break
    memory = target.bandwidth_gb_s * target.memory_efficiency * 1e6
    total, paid = 0.0, set()
    for read, written, work, precision in kernels:
        elements = work if isinstance(work, int) else work.input_elements
        moved = batch * (elements * bits[precision] + sum(n * bits[stored[t]] for t, n in written.items())) / 8
        computed = 0.0
        if not isinstance(work, int):
            moved += work.weight.elements * stored_weights[weights_of[work.id]] / 8
            share = {32: 1.0, 16: target.compute_efficiency}.get(bits[precision], target.eight_bit_efficiency)
            rate = target.peak_tops[INT8 if precision is INT4 else precision] * share * 1e9
            computed = work.flops * batch / rate
        epilogue = isinstance(work, int) and _is_epilogue(read, written, elements, kernels, grouping)
        total += 0.0 if epilogue else max(computed, moved / memory) + target.launch_us * 1e-3
        for tensor in read:
            if stored[tensor] is not precision and (tensor, precision) not in paid:
                paid.add((tensor, precision))
                # All of them are Adds. Blocks with scales as they come are quantized by a kernel of their own.
                fused = precision is not NVFP4 and any(op.output == tensor for op in grouping.loose)
                from_memory = 0 if fused else bits[stored[tensor]]
                total += batch * size[tensor] * (from_memory + bits[precision]) / 8 / memory
                total += 0 if fused else target.launch_us * 1e-3
    return total


def _is_epilogue(
    read: list[str], written: Mapping[str, int], elements: int, kernels: list[tuple[object, ...]], grouping: Grouping
) -> bool:
    """Whether a kernel changes one tensor in place that nobody else reads: its writer does that too."""
    if len(read) != 1 or sum(written.values()) != elements:
        return False
    return sum(read[0] in k[0] for k in kernels) == 1  # type: ignore[operator]


class TestLaws:
    @given(planned_networks(), st.integers(1, 64))
    def test_agrees_with_the_rules_worked_out_tensor_by_tensor(self, network, batch):
        grouping, plan = network
        target = replace(target_from_name("rtx5090"), l2_mb=1e-9)
        expected = reference_ms(grouping, plan.as_dict(), target, batch)
        assert ideal(grouping, target, batch).plan_ms(plan) == pytest.approx(expected)

    @given(planned_networks(), st.integers(1, 100), st.integers(0, 100))
    def test_positive_and_monotone_in_batch(self, network, batch, more):
        grouping, plan = network
        small, large = (LatencyModel(grouping, UNIT, size) for size in (batch, batch + more))
        assert all(ms >= LAUNCH_MS for ms in small.group_ms(plan).values())
        assert 0 < small.plan_ms(plan) <= large.plan_ms(plan)

    @given(planned_networks())
    def test_conversion_paid_once_per_tensor_and_format(self, network):
        grouping, plan = network
        reformats = LatencyModel(grouping, UNIT, 1).reformats(plan)
        assert len({(r.tensor, r.wanted) for r in reformats}) == len(reformats)
        assert all(r.stored is not r.wanted and r.elements > 0 for r in reformats)

    @given(networks(loose=False), st.integers(1, 64), st.sampled_from(SHIPPED))
    def test_uniform_int8_is_never_slower_than_fp16(self, grouping, batch, device):
        model = LatencyModel(grouping, target_from_name(device), batch)
        assert {r.tensor for r in model.reformats(all_in(grouping, INT8))} <= {"x"}
        assert model.plan_ms(all_in(grouping, INT8)) <= model.plan_ms(all_in(grouping, FP16)) * (1 + 1e-12)

    @given(networks(loose=False), st.data())
    def test_groups_account_for_everything_when_nothing_is_loose(self, grouping, data):
        plan = data.draw(plans(grouping))
        model = LatencyModel(grouping, UNIT, 1)
        assert tuple(model.group_ms(plan)) == tuple(group.id for group in grouping.groups)
        assert sum(model.group_ms(plan).values()) == pytest.approx(model.plan_ms(plan))
