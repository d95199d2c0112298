"""Which operators outside groups are kernels, and what caches, tiles and vectors of channels cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fixtures_groups import make_group, make_grouping, make_loose
from trt_mpq.latency.dataflow import Dataflow
from trt_mpq.latency.roofline import LatencyModel, Traits
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import LayerGroup, Precision, PrecisionPlan, Weight

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
A100 = target_from_name("a100")


def conv(inputs: int, outputs: int, *, per_channel: bool = False, **more: int) -> LayerGroup:
    group = make_group("conv", **more)
    shape = (outputs, 1 if per_channel else inputs, 3, 3)
    return replace(group, weights=(Weight("w", shape, 0, "conv", None, "conv.out", 1, len(shape)),))


def ms(group: LayerGroup, precision: Precision, device: str = "a100", batch: int = 1, **traits: float) -> float:
    target = replace(target_from_name(device), l2_mb=1e-9)
    model = LatencyModel(make_grouping([group]), target, batch, traits=replace(Traits(), **traits))
    return model.kernel_ms(model.flow.kernels[0], model.flow.formats(PrecisionPlan.of({group.id: precision})))


class TestFusion:
    def kernels(self, *parts: object) -> dict[str, str]:
        """Name to kind of every kernel outside groups that runs."""
        flow = Dataflow(make_grouping(*parts))  # type: ignore[arg-type]
        return {k.name: k.kind for k in flow.kernels if k.name not in flow.groups and k.kind != "none"}

    def test_add_and_normalization_are_one_kernel(self):
        ops = [make_loose("add", ["a.out", "x"]), make_loose("norm", ["add.out"], op_type="LayerNormalization")]
        assert self.kernels([make_group("a"), make_group("b", ["norm.out"])], ops) == {"add": "other"}

    def test_a_residual_around_groups_joins_nothing(self):
        ops = [
            make_loose("add1", ["a.out", "x"]),
            make_loose("norm1", ["add1.out"], op_type="LayerNormalization"),
            make_loose("add2", ["add1.out", "b.out"]),
        ]
        groups = [make_group("a"), make_group("b", ["norm1.out"]), make_group("c", ["add2.out"])]
        assert self.kernels(groups, ops) == {"add1": "other", "add2": "pointwise"}
        flow = Dataflow(make_grouping(groups, ops))
        first = next(kernel for kernel in flow.kernels if kernel.name == "add1")
        assert set(first.writes) == {"add1.out", "norm1.out"}, "the residual is read again later"
        assert first.input_elements == 200

    @pytest.mark.parametrize("op_type", ["Transpose", "Slice", "Concat"])
    def test_movement_disappears_into_its_neighbours(self, op_type: str):
        ops = [make_loose("moved", ["a.out"], op_type=op_type)]
        assert self.kernels([make_group("a"), make_group("b", ["moved.out"])], ops) == {}

    def test_a_function_of_one_tensor_is_its_writers_epilogue_unless_others_read_that(self):
        groups, ops = (
            [make_group("a"), make_group("b", ["silu.out"])],
            [make_loose("silu", ["a.out"], op_type="Sigmoid")],
        )
        assert self.kernels(groups, ops) == {}
        assert self.kernels([*groups, make_group("c", ["a.out"])], ops) == {"silu": "pointwise"}

    def test_pooling_and_resizing_run(self):
        ops = [make_loose("pool", ["a.out"], op_type="MaxPool"), make_loose("resize", ["pool.out"], op_type="Resize")]
        assert self.kernels([make_group("a"), make_group("b", ["resize.out"])], ops) == dict.fromkeys(
            ("pool", "resize"), "other"
        )

    def test_a_long_chain_takes_no_recursion(self):
        ops = [make_loose(f"n{i}", ["a.out" if i == 0 else f"n{i - 1}.out", "a.out"]) for i in range(5000)]
        assert self.kernels([make_group("a"), make_group("b", ["n4999.out"])], ops) == {"n0": "pointwise"}


class TestCosts:
    def test_what_fits_the_cache_is_faster(self):
        group = make_group("g", flops=0, weights=10, input_elements=10**6, output_elements=10**6)
        model = LatencyModel(make_grouping([group]), A100, 1)
        plan = PrecisionPlan.of({"g": FP16})
        large = model.on(replace(A100, l2_mb=1e-9), Traits())
        launch_ms = A100.launch_us / 1e3
        kernel, formats = model.flow.kernels[0], model.flow.formats(plan)
        cached, streamed = (m.kernel_ms(kernel, formats) - launch_ms for m in (model, large))
        assert streamed == pytest.approx((4e6 + 20) / (A100.bandwidth_gb_s * 1e6 * A100.memory_efficiency))
        l2_gb_s = Traits().l2_bytes * A100.multiprocessors * A100.clock_ghz
        assert cached == pytest.approx((4e6 + 20) / (l2_gb_s * 1e6))

    def test_depthwise_products_run_on_cuda_cores(self):
        flops = 10**10
        plain, per_channel = (ms(conv(64, 64, per_channel=p, flops=flops), FP16) for p in (False, True))
        assert per_channel > 3 * plain
        launch_ms = A100.launch_us / 1e3
        rate = 2 * A100.peak_tops[Precision.FP32] * Traits().depthwise_share * 1e9
        assert per_channel - launch_ms == pytest.approx(flops / rate, rel=1e-2)

    def test_few_channels_fill_vectors_of_16_in_8_bit_and_of_32_on_turing(self):
        def moved(device: str, channels: int) -> float:
            group = conv(channels, channels, flops=0, input_elements=10**7, output_elements=10**7)
            return ms(group, INT8, device, overlap=1.0) - target_from_name(device).launch_us / 1e3

        assert moved("a100", 8) > 1.3 * moved("a100", 16)  # what is read; what is written is in 16 bit at the border
        assert moved("a100", 16) == pytest.approx(moved("a100", 32), rel=1e-3)
        assert moved("t4", 16) > 1.3 * moved("t4", 32)

    def test_patches_are_a_matrix_in_fp8_whose_three_channels_nothing_pads(self):
        """As a convolution they are read as 16 channels in 8 bit."""

        def moved(patches: tuple[int, ...]) -> float:
            group = make_group("conv", flops=0, input_elements=10**7, output_elements=16)
            weight = Weight("w", (64, 3, 8, 8), 0, "conv", None, "conv.out", 1, 4, patches=patches)
            return ms(replace(group, weights=(weight,)), FP8, "l4") - target_from_name("l4").launch_us / 1e3

        assert moved(()) == pytest.approx(moved((4, 4)) * 16 / 3, rel=0.05)

    def test_a_small_product_does_not_fill_the_gpu(self):
        small, twice = (ms(conv(256, 256, flops=flops), FP16) for flops in (10**6, 2 * 10**6))
        assert twice < 1.5 * small

    def test_tf32_is_for_fp32_products_alone(self):
        group = conv(64, 64, flops=10**10)
        off, on = (LatencyModel(make_grouping([group]), A100, 1, tf32=tf32) for tf32 in (False, True))
        fp32, fp16 = (PrecisionPlan.of({"conv": p}) for p in (Precision.FP32, FP16))
        assert on.plan_ms(fp32) < off.plan_ms(fp32) / 4
        assert on.plan_ms(fp16) == off.plan_ms(fp16)
        t4 = LatencyModel(make_grouping([group]), target_from_name("t4"), 1, tf32=True)
        assert t4.plan_ms(fp32) > off.plan_ms(fp32), "Turing has no TF32"
