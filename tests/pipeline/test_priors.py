"""What is excluded beforehand, and who overrules it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.latency.test_measured import TABLE
from tests.runs import start, tiny_cnn, write_data
from trt_mpq.latency.device_table import save_table
from trt_mpq.types import Precision

FP16, FP8, INT8 = Precision.FP16, Precision.FP8, Precision.INT8


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"), tiny_cnn())


def test_the_device_decides_whether_few_channels_run_in_fp8(files: dict[str, str], tmp_path: Path) -> None:
    given = {"exclusions": "modelopt", "precisions": "int8,fp8"}
    hopper, ada = (start(files, tmp_path / device, device=device, **given).inspect() for device in ("h200", "l4"))
    assert [FP8 in group.excluded for group in hopper.groups[:3]] == [True] * 3
    assert [FP8 in group.excluded for group in ada.groups[:3]] == [False] * 3


def test_what_tensorrt_for_rtx_compiles_says_nothing_of_tensorrt(files: dict[str, str], tmp_path: Path) -> None:
    given = {"exclusions": "modelopt", "precisions": "int8,fp8", "device": "l4"}
    runs = (start(files, tmp_path / flavour, engine={"flavour": flavour}, **given) for flavour in ("tensorrt", "rtx"))
    named, other = ([FP8 in group.excluded for group in run.inspect().groups[:3]] for run in runs)
    assert (named, other) == ([True] * 3, [False] * 3)


def test_a_device_table_overrules_what_was_excluded_beforehand(files: dict[str, str], tmp_path: Path) -> None:
    """Only if it holds every group in every format; else what it does not know stays out."""
    free = start(files, tmp_path / "free", exclusions="none").inspect()
    times = {precision: {group.id: 1.0 for group in free.groups} for precision in (FP16, INT8)}
    save_table(replace(TABLE, group_ms=times), tmp_path / "table.json")
    given = {"exclusions": "modelopt", "latency": str(tmp_path / "table.json")}
    run = start(files, tmp_path / "run", **given)
    assert [group.excluded for group in run.inspect().groups] == [{}] * len(free.groups)
    del times[INT8][free.groups[1].id]
    save_table(replace(TABLE, group_ms=times), tmp_path / "table.json")
    assert any(group.excluded for group in start(files, tmp_path / "run", **given).inspect().groups)
