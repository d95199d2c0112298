"""What the tables of the commands print."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from trt_mpq.cli.tables import latencies_table, outputs_table
from trt_mpq.engine.run import OutputArray
from trt_mpq.latency.device_table import ConversionCost, DeviceTable, PredictionError, Provenance
from trt_mpq.types import Precision
from trt_mpq.types.engine import Platform

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8
HOSTILE = "[bold]x[/bold]\x1b[31m"
TABLE = DeviceTable(
    provenance=Provenance("sha", 8, Platform("NVIDIA L4", 89, "10.16.1", "13.0", "580"), "2026-11-24", {}),
    builds=5,
    counted_batches=8,
    group_ms={INT8: {"stem": 0.002, "head": 0.004}, FP16: {"stem": 0.003, "head": 0.008}},
    wide_ms={INT8: {"stem": 0.0021}},
    conversion=ConversionCost(launch_ms=0.001, ms_per_byte=2e-9, realised=0.5),
    other_ms={FP16: 0.001},
    scale=2.0,
)


def printed(shown: RenderableType, width: int = 100) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(shown)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_times_are_scaled_to_whole_engines_and_precisions_are_in_order() -> None:
    lines = printed(latencies_table(TABLE))
    assert lines[0] == "group FP16, µs INT8, µs"
    assert "stem 6.00 4.00" in lines
    assert "head 16.0 8.00" in lines
    assert "NVIDIA L4, TensorRT 10.16.1, batch 8, from 5 engines" in lines


def test_a_conversion_s_cost_counts_scale_and_how_many_are_realised() -> None:
    # 2.0 * 0.5 of 1 µs and of 2e-9 ms per byte, a million bytes of which make 2 µs.
    assert "a conversion takes 0.00100 ms and 0.00200 ms per MB read and written" in printed(latencies_table(TABLE))


def test_a_group_without_a_time_has_a_dash() -> None:
    narrow = replace(TABLE, group_ms={FP16: {"stem": 0.003, "head": 0.008}, INT8: {"stem": 0.002}})
    assert "head 16.0 \N{EN DASH}" in printed(latencies_table(narrow))


def test_how_far_the_table_can_be_trusted() -> None:
    text = " ".join(printed(latencies_table(TABLE)))
    assert "predicted" not in text
    assert "estimated" not in text
    doubtful = replace(TABLE, error=PredictionError(2, 0.021, 0.034), estimated={FP8: ("stem", "head"), INT8: ()})
    text = " ".join(printed(latencies_table(doubtful)))
    assert "2 mixed engines left out of the fit were predicted within 2.1% on average, 3.4% at most" in text
    assert "estimated in FP8, no engine tells: stem, head" in text
    assert "estimated in INT8" not in text


@pytest.mark.parametrize("width", [20, 80])
def test_names_are_text_not_markup_or_escapes(width: int) -> None:
    hostile = replace(
        TABLE,
        group_ms={FP16: {HOSTILE: 0.003}},
        estimated={FP16: (HOSTILE,)},
        provenance=replace(TABLE.provenance, platform=Platform(HOSTILE, 89, HOSTILE, "13.0", "580")),
    )
    text = "".join(printed(latencies_table(hostile), width))
    assert "[bold]" in text
    assert "\x1b" not in text


def test_outputs_are_listed_with_type_and_shape() -> None:
    lines = printed(outputs_table((OutputArray("logits", "float32", (512, 10)), OutputArray(HOSTILE, "int64", ()))))
    assert lines[0] == "output type shape"
    assert "logits float32 512x10" in lines
    assert "\x1b" not in "".join(lines)
