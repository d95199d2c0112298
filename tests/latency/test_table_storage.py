from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.latency.simulated import FP8, FP16, INT8, PLATFORM, PROVENANCE, Device, residual_network
from trt_mpq.errors import SettingsError
from trt_mpq.latency.device_table import load_table, matches, refuse_mismatch, save_table

NETWORK = residual_network(2, seed=1)
TABLE = Device(NETWORK, noise=0.01, hidden=("b0a",)).table(FP16, FP8, INT8)
MODEL = PROVENANCE.model_sha256


def test_round_trip(tmp_path: Path):
    save_table(TABLE, tmp_path / "table.json")
    assert load_table(tmp_path / "table.json") == TABLE
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_file_is_legible(tmp_path: Path):
    save_table(TABLE, tmp_path / "table.json")
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["provenance"]["platform"]["gpu"] == "NVIDIA Imaginary 1000"
    assert content["group_ms"]["int8"]["b1a"] == TABLE.group_ms[INT8]["b1a"]
    assert content["estimated"]["fp16"] == ["b0a"]
    assert content["error"]["engines"] == 4


def test_missing_file(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"cannot read the device table .*absent\.json \(No such file"):
        load_table(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("scale", -1.0, "scale"),
        ("scale", float("nan"), "scale"),
        ("group_ms", {"int9": {}}, "group_ms"),
        ("other_ms", {"fp16": "soon"}, "other_ms"),
    ],
)
def test_damaged_file(tmp_path: Path, key: str, value: object, said: str):
    save_table(TABLE, tmp_path / "table.json")
    content = json.loads((tmp_path / "table.json").read_text())
    (tmp_path / "table.json").write_text(json.dumps({**content, key: value}))
    with pytest.raises(SettingsError, match=rf"table\.json is no device table of this version \({said}"):
        load_table(tmp_path / "table.json")


def test_no_json(tmp_path: Path):
    (tmp_path / "table.json").write_text('{"builds": 4')
    with pytest.raises(SettingsError, match="is no device table of this version"):
        load_table(tmp_path / "table.json")


class TestMatch:
    def test_measured_elsewhere_for_this_model(self):
        assert matches(TABLE, MODEL, 4)
        assert matches(TABLE, MODEL, 4, PLATFORM)
        refuse_mismatch(TABLE, MODEL, 4, PLATFORM)

    def test_another_driver_is_the_same_device(self):
        assert matches(TABLE, MODEL, 4, replace(PLATFORM, driver="600.1", cuda="13.1"))

    def test_another_model(self):
        assert not matches(TABLE, "cd" * 32, 4)
        with pytest.raises(SettingsError, match=r"for another model \(SHA-256 abababababab, not cdcdcdcdcdcd\): run"):
            refuse_mismatch(TABLE, "cd" * 32, 4)

    def test_another_batch(self):
        assert not matches(TABLE, MODEL, 8, PLATFORM)
        with pytest.raises(SettingsError, match="measured at batch 4, not 8: run `trt-mpq measure` for this one"):
            refuse_mismatch(TABLE, MODEL, 8)

    @pytest.mark.parametrize("change", [{"gpu": "NVIDIA Other"}, {"sm": 90}, {"tensorrt": "11.4.0"}])
    def test_another_device(self, change: dict[str, object]):
        other = replace(PLATFORM, **change)
        assert not matches(TABLE, MODEL, 4, other)
        with pytest.raises(SettingsError, match=rf"on NVIDIA Imaginary 1000 \(SM 89\) .*, not .*{change.popitem()[1]}"):
            refuse_mismatch(TABLE, MODEL, 4, other)
