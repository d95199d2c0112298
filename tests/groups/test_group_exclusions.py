"""What keeps a group out of a format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.groups.graphs import QUANTIZED, from_text, grouping_of, network, sample_shapes
from trt_mpq.groups import groups_from_model
from trt_mpq.groups.exclusions import source_of
from trt_mpq.types import Grouping, LayerGroup, Precision


def reasons(
    body: str, weights: dict[str, tuple[int, ...]], index: int = -1, capability: int | None = None
) -> dict[Precision, str]:
    graph = from_text(body, weights)
    return dict(groups_from_model(graph, sample_shapes(graph), capability=capability).groups[index].excluded)


def conv_reasons(
    channels: tuple[int, int], kernel: int = 3, group: int = 1, capability: int | None = None
) -> dict[Precision, str]:
    """Exclusions of a convolution behind another one."""
    body = f"""g (float[N,3,64,64] x) => (float[N,c,h,w_] y) {{
        a = Conv(x, first) y = Conv<group={group}>(a, w) }}"""
    shape = (channels[1], channels[0] // group, kernel, kernel)
    return reasons(body, {"first": (channels[0], 3, 1, 1), "w": shape}, capability=capability)


def test_wide_convolution_may_run_in_everything() -> None:
    assert conv_reasons((32, 24)) == {}


@pytest.mark.parametrize(
    ("channels", "text"),
    [
        ((8, 32), "8 input channels are fewer than 16"),
        ((32, 8), "8 output channels are fewer than 16"),
        ((20, 32), "20 input channels are not a multiple of 8"),
        ((32, 20), "20 output channels are not a multiple of 8"),
    ],
)
def test_narrow_or_misaligned_convolution(channels: tuple[int, int], text: str) -> None:
    found = conv_reasons(channels)
    assert set(found) == set(QUANTIZED)
    assert found[Precision.INT8] == found[Precision.INT4] == text


@pytest.mark.parametrize(("capability", "runs"), [(None, False), (90, False), (86, False), (89, True), (120, True)])
def test_few_channels_run_in_fp8_where_nvidias_compiler_has_such_kernels(capability: int | None, runs: bool) -> None:
    for channels in ((16, 16), (8, 32), (32, 20)):
        assert (Precision.FP8 not in conv_reasons(channels, capability=capability)) == runs
    first = reasons(
        "g (float[N,3,64,64] x) => (float[N,32,62,62] y) { y = Conv(x, w) }",
        {"w": (32, 3, 3, 3)},
        capability=capability,
    )
    assert (first == {}) == runs


@pytest.mark.parametrize(("capability", "runs"), [(None, False), (90, False), (87, False), (80, True), (120, True)])
def test_what_fills_no_tile_runs_in_int8_where_nvidias_compiler_has_such_kernels(
    capability: int | None, runs: bool
) -> None:
    for channels in ((8, 32), (32, 8), (20, 32)):
        assert (Precision.INT8 not in conv_reasons(channels, capability=capability)) == runs
    body = "g (float[N,13] x) => (float[N,5] y) { y = MatMul(x, w) }"
    assert (Precision.INT8 not in reasons(body, {"w": (13, 5)}, capability=capability)) == runs


def test_a_matrix_times_a_vector_stays_out_wherever() -> None:
    body = "g (float[N,32] x) => (float[N,1] y) { y = MatMul(x, w) }"
    text = "matrix times vector, bound by memory"
    assert set(reasons(body, {"w": (32, 1)}, capability=89).values()) == {text}


@pytest.mark.parametrize("capability", [None, 89, 120])
def test_large_fp8_kernels_stay_out_wherever(capability: int | None) -> None:
    """They compile, but to kernels with FP16 operands."""
    assert conv_reasons((32, 32), kernel=7, capability=capability) == {
        Precision.FP8: "no FP8 kernel for a kernel volume of 49, above 32"
    }


def test_first_layer_may_have_few_channels_in_integers() -> None:
    body = "g (float[N,3,9,9] x) => (float[N,c,h,w_] y) { n = Sub(x, x) y = Conv(n, w) }"
    assert reasons(body, {"w": (16, 3, 3, 3)}) == {Precision.FP8: "3 channels are not more than 16"}


@pytest.mark.parametrize(("channels", "excluded"), [(24, {Precision.FP8}), (20, set(QUANTIZED))])
def test_depthwise_convolution_counts_channels_only(channels: int, excluded: set[Precision]) -> None:
    assert set(conv_reasons((channels, channels), group=channels)) == excluded


@pytest.mark.parametrize(
    ("group", "capability", "stays_out"), [(1, 90, False), (4, 90, True), (32, None, True), (32, 89, False)]
)
def test_grouped_fp8_convolutions_run_where_the_compiler_was_seen_to_run_them(
    group: int, capability: int | None, stays_out: bool
) -> None:
    reason = {Precision.FP8: "no optimized FP8 kernel for grouped convolutions"}
    assert conv_reasons((32, 32), group=group, capability=capability) == (reason if stays_out else {})


@pytest.mark.parametrize(("capability", "stays_out"), [(75, True), (86, True), (89, True), (87, False), (90, False)])
def test_int8_deconvolutions_stay_out_where_tensorrt_for_rtx_serves_the_gpu(capability: int, stays_out: bool) -> None:
    body = "g (float[N,32,9,9] x) => (float[N,c,h,w_] y) { y = ConvTranspose(x, w) }"
    found = reasons(body, {"w": (32, 32, 2, 2)}, capability=capability)
    assert found.get(Precision.INT8) == ("no INT8 kernel for ConvTranspose" if stays_out else None)


def test_every_rule_says_where_it_is_from() -> None:
    """Whatever of these a shape breaks; what a format cannot do at all is no rule."""
    convolution = "g (float[N,32,9,9] x) => (float[N,c,h,w_] y) { y = ConvTranspose(x, w) }"
    product = "g (float[N,13] x) => (float[N,k] y) { y = MatMul(x, w) }"
    broken = [
        *(conv_reasons(channels) for channels in ((8, 32), (32, 36), (16, 32))),
        conv_reasons((32, 32), kernel=7),
        *(conv_reasons((channels, channels), group=channels) for channels in (20, 24)),
        reasons(convolution, {"w": (32, 32, 2, 2)}, capability=89),
        *(reasons(product, {"w": (13, columns)}) for columns in (32, 1)),
    ]
    assert all(broken)
    assert None not in {source_of(reason) for found in broken for reason in found.values()}
    assert source_of("w8a16 is for matrix products with a constant weight") is None


def test_fp8_limits() -> None:
    assert conv_reasons((16, 32)) == {Precision.FP8: "16 channels are not more than 16"}
    assert conv_reasons((32, 32), kernel=6) == {Precision.FP8: "no FP8 kernel for a kernel volume of 36, above 32"}
    assert conv_reasons((32, 32), kernel=5) == {}
    body = "g (float[N,32,9,9] x) => (float[N,c,h,w_] y) { y = ConvTranspose(x, w) }"
    assert reasons(body, {"w": (32, 32, 2, 2)}) == {Precision.FP8: "no FP8 kernel for ConvTranspose"}


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((32, 10), "N = 10 is below 16"),
        ((12, 32), "K = 12 is below 16"),
        ((32, 1), "matrix times vector, bound by memory"),
    ],
)
def test_small_matrix_products(shape: tuple[int, int], text: str) -> None:
    found = reasons(f"g (float[N,{shape[0]}] x) => (float[N,m] y) {{ y = MatMul(x, w) }}", {"w": shape})
    assert found == dict.fromkeys(QUANTIZED, text)


def test_one_row_is_a_vector_only_if_the_batch_is_fixed() -> None:
    assert reasons("g (float[N,32] x) => (float[N,m] y) { y = MatMul(x, w) }", {"w": (32, 32)}) == {}
    fixed = reasons("g (float[1,32] x) => (float[1,m] y) { y = MatMul(x, w) }", {"w": (32, 32)})
    assert fixed == dict.fromkeys(QUANTIZED, "matrix times vector, bound by memory")
    rows = reasons("g (float[1,9,32] x) => (float[1,9,m] y) { y = MatMul(x, w) }", {"w": (32, 32)})
    assert rows == {}


def test_exclusions_can_be_left_out(tmp_path: Path) -> None:
    graph = network("depthwise_cnn", tmp_path)
    free = groups_from_model(graph, sample_shapes(graph), exclusions="none")
    assert all(group.allows(precision) for group in free.groups for precision in Precision)
    assert _without_exclusions(free) == _without_exclusions(grouping_of(graph))


def _without_exclusions(grouping: Grouping) -> list[LayerGroup]:
    return [replace(group, excluded={}) for group in grouping.groups]
