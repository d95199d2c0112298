from __future__ import annotations

from pathlib import Path

import pytest

from trt_mpq._data import data_folder, load_toml
from trt_mpq.errors import SettingsError
from trt_mpq.latency.target import RTX_SM, target_from_name
from trt_mpq.types import Precision, Target

SHIPPED = (
    "a10", "a100", "a30", "b200", "gb10", "h100", "h200", "l4", "l40s", "orin-agx", "orin-nano", "orin-nx",
    "rtx-pro-6000", "rtx3090", "rtx4090", "rtx5090", "t4", "thor",
)  # fmt: skip

# Streaming multiprocessors, dense FP16 tensor operations per clock and multiprocessor, clock in GHz at which
# NVIDIA states the peak: from the architecture whitepapers, so independent of the datasheets' rates.
TENSOR_CORES = {
    "a10": (72, 1024, 1.695),
    "a100": (108, 2048, 1.41),
    "a30": (56, 2048, 1.44),
    "b200": (148, 8192, 1.856),
    "gb10": (48, 1024, 2.52),
    "h100": (132, 4096, 1.83),
    "h200": (132, 4096, 1.83),
    "l4": (58, 1024, 2.04),
    "l40s": (142, 1024, 2.52),
    "orin-agx": (16, 2048, 1.3),
    "orin-nano": (8, 2048, 1.02),
    "orin-nx": (8, 2048, 0.918),
    "rtx-pro-6000": (188, 1024, 2.617),
    "rtx3090": (82, 1024, 1.695),
    "rtx4090": (128, 1024, 2.52),
    "rtx5090": (170, 1024, 2.407),
    "t4": (40, 1024, 1.59),
    "thor": (20, 8192, 1.575),
}


@pytest.fixture(params=SHIPPED)
def target(request: pytest.FixtureRequest) -> Target:
    return target_from_name(request.param)


def test_all_device_models_ship():
    with pytest.raises(SettingsError, match=f"choose one of {', '.join(SHIPPED)}, or give"):
        target_from_name("")


def test_fp16_peak_is_dense(target: Target):
    processors, per_clock, ghz = TENSOR_CORES[target.name]
    assert target.peak_tops[Precision.FP16] == pytest.approx(processors * per_clock * ghz / 1000, rel=0.01)


def test_int8_peak_is_twice_the_fp16_peak(target: Target):
    assert target.peak_tops[Precision.INT8] == pytest.approx(2 * target.peak_tops[Precision.FP16], rel=0.01)


def test_fp8_exactly_where_the_hardware_has_it(target: Target):
    assert target.supports(Precision.FP8) == (target.sm >= 89)
    assert Precision.INT4 not in target.peak_tops


def test_nvfp4_is_four_times_fp16_and_exactly_where_the_hardware_has_it(target: Target):
    assert target.supports(Precision.NVFP4) == (target.sm >= 100)
    if target.supports(Precision.NVFP4):
        assert target.peak_tops[Precision.NVFP4] == pytest.approx(4 * target.peak_tops[Precision.FP16], rel=0.01)


def test_weights_alone_are_narrow_from_ampere_on(target: Target):
    for precision in (Precision.W8A16, Precision.W4A16):
        assert target.supports(precision) == (target.sm >= 80)
        assert precision not in target.peak_tops


def test_every_number_names_its_source_and_date(target: Target):
    numbers = {
        *("sm", "multiprocessors", "clock_ghz", "bandwidth_gb_s", "l2_mb", "launch_us", "board_power_w", "idle_share"),
        *("compute_efficiency", "eight_bit_efficiency", "memory_efficiency"),
    }
    assert set(target.sources) == numbers | {f"peak_tops.{precision}" for precision in target.peak_tops}
    for source in target.sources.values():
        assert source.startswith(("assumption: ", "fitted: ")) or "https://" in source
        assert source.endswith(")")
        assert source[-11:-7].isdigit()


def test_rates_hold_at_the_clock_and_multiprocessors_of_the_file(target: Target):
    assert (target.multiprocessors, target.clock_ghz) == (TENSOR_CORES[target.name][0], TENSOR_CORES[target.name][2])


def test_every_device_says_how_far_its_latencies_are_off(target: Target):
    assert target.error is not None
    assert 0 < target.error.ratio < target.error.times < 0.5
    assert target.error.points >= 5
    assert target.error.devices


def test_file_name_is_the_device_name(target: Target):
    assert load_toml(data_folder("targets") / f"{target.name}.toml")["name"] == target.name


def test_unknown_device_lists_the_known():
    with pytest.raises(SettingsError, match=r"unknown device 'h300': choose one of a10, a100.*thor"):
        target_from_name("h300")


def test_own_device_model_from_a_file(own_device: Path):
    assert target_from_name(str(own_device)) == target_from_name("orin-agx")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("sm]\nvalue = 87", "sm]\nvalue = 87.5", "sm.value"),
        ("value = 42.5", "value = -1.0", "peak_tops.fp16.value"),
        ("[peak_tops.fp16]", "[peak_tops.fp17]", "peak_tops.fp17"),
        ("[peak_tops.fp32]", "[peak_tops.fp8]", "peak_tops lacks fp32"),
        ("[peak_tops.int8]", "[peak_tops.fp8]", "needs sm 89"),
        ("[peak_tops.int8]", "[peak_tops.int4]", "int4"),
        ("value = 0.438", "value = 1.5", "compute_efficiency.value"),
        ("value = 0.438", "value = inf", "compute_efficiency.value"),
        ("fitted: to", "guess: to", "launch_us.source: .*public page"),
        ("[bandwidth_gb_s]", "[bandwidth]", "bandwidth_gb_s: Field required"),
        ("date = 2026-11-23", "", "date: Field required"),
        ("[l2_mb]", "[l3_mb]", "l2_mb: Field required"),
        ("ratio = 0.047", "ratio = 0", "error.ratio"),
        ("[sm]", "[sm", "not valid TOML"),
    ],
)
def test_broken_device_model_is_refused(own_device: Path, old: str, new: str, complaint: str):
    own_device.write_text(own_device.read_text().replace(old, new))
    with pytest.raises(SettingsError, match=complaint):
        target_from_name(str(own_device))


def test_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="No such file"):
        target_from_name(str(tmp_path / "none.toml"))


@pytest.fixture
def own_device(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text((data_folder("targets") / "orin-agx.toml").read_text())
    return path


def test_every_device_that_rtx_serves_is_among_its_capabilities():
    served = {name for name in SHIPPED if target_from_name(name).sm in RTX_SM}
    assert served == set(SHIPPED) - {"b200", "h100", "h200", "orin-agx", "orin-nano", "orin-nx", "thor"}
    assert {target_from_name(name).sm for name in served} == set(RTX_SM)
