"""Plans for several devices from one sensitivity run: what no device decides is done once, every plan is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import QUICK, Recorder, slow_device, start, tiny_cnn, write_data
from trt_mpq.artifacts.files import from_json
from trt_mpq.artifacts.store import read_manifest
from trt_mpq.errors import RunFolderError, SettingsError, TrtMpqError
from trt_mpq.pipeline import devices
from trt_mpq.pipeline.devices import DevicesRun, require_one_device, settings_by_device
from trt_mpq.report.comparison import DeviceComparison
from trt_mpq.report.data import report_from_json
from trt_mpq.settings import settings_from

ONCE = ("Scoring FP32", "Calibrating", "Sensitivity (output-sqnr)")
GOAL = {"target_accuracy": 0.995}
"""One that the fastest plan of all misses, so that groups are ranked."""
KEPT = ("plan.json", "typed.onnx", "reference.onnx", "search.json", "searched.json", "verification.json")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    found = write_data(folder, tiny_cnn())
    slow_device(folder / "slow.toml")
    slow_device(folder / "narrow.toml", bandwidth_gb_s=1e-3)
    return {**found, "device": f"{folder / 'slow.toml'},t4,{folder / 'narrow.toml'},l4"}


def together(files: dict[str, str], folder: Path, observer: Recorder | None = None, **settings: object) -> DevicesRun:
    asked = settings_from({**files, **QUICK, **GOAL, **settings}, "test")
    return DevicesRun(asked, folder, observer or Recorder(), "trt-mpq build")


@pytest.fixture(scope="module")
def done(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder, DeviceComparison]:
    folder, observer = tmp_path_factory.mktemp("runs") / "run", Recorder()
    comparison = together(files, folder, observer).report()
    return folder, observer, comparison


def test_what_no_device_decides_is_done_once(done: tuple[Path, Recorder, DeviceComparison]) -> None:
    _, observer, comparison = done
    assert [observer.stages.count(title) for title in ONCE] == [1, 1, 1]
    scored = [title for title in observer.stages if title.startswith("Scoring") and "the fastest" not in title]
    assert "Scoring FP32" in scored
    assert len(scored) == len(set(scored)), "but for the fastest plans, which are those of a device"
    assert [one.folder for one in comparison.devices] == ["slow", "t4", "narrow", "l4"]
    assert comparison.plans > 1, "or the next test would compare a plan with itself"


@pytest.mark.parametrize("number", range(4))
def test_every_plan_is_that_of_a_run_for_the_device_alone(
    number: int, done: tuple[Path, Recorder, DeviceComparison], files: dict[str, str], tmp_path: Path
) -> None:
    folder, _, comparison = done
    device = files["device"].split(",")[number]
    alone = start({**files, "device": device}, tmp_path / "alone", latency="modelled", **GOAL).report()
    one, name = comparison.devices[number], comparison.devices[number].folder
    assert (one.plan, one.accuracy, one.latency_ms, one.size_bytes) == (
        alone.plan, alone.accuracy, alone.latency_ms, alone.size_bytes,
    )  # fmt: skip
    for kept in KEPT:
        assert (folder / name / kept).read_bytes() == (tmp_path / "alone" / kept).read_bytes(), kept
    report = report_from_json((folder / name / "report.json").read_text())
    assert report.search.path == alone.search.path


@pytest.mark.parametrize("event", [4, 40, 70, 100])
def test_an_interrupted_run_goes_on_and_ends_the_same(
    event: int, done: tuple[Path, Recorder, DeviceComparison], files: dict[str, str], tmp_path: Path
) -> None:
    folder, observer, comparison = done
    assert event < len(observer.events)
    with pytest.raises(KeyboardInterrupt):
        together(files, tmp_path / "run", Recorder(interrupt_at=event)).report()
    again = together(files, tmp_path / "run").report()
    assert [one.plan for one in again.devices] == [one.plan for one in comparison.devices]
    for name in (one.folder for one in again.devices):
        for kept in KEPT:
            assert (folder / name / kept).read_bytes() == (tmp_path / "run" / name / kept).read_bytes()


def test_nothing_is_done_again_and_the_page_is_made_anew(
    done: tuple[Path, Recorder, DeviceComparison], files: dict[str, str]
) -> None:
    folder, _, comparison = done
    for name in ("comparison.json", "comparison.html"):
        (folder / name).unlink()
    observer = Recorder()
    again = together(files, folder, observer).report()
    assert observer.stages == []
    assert again.devices == comparison.devices
    assert from_json((folder / "comparison.json").read_bytes(), DeviceComparison) == again
    assert 'href="t4/report.html"' in (folder / "comparison.html").read_text()


def test_a_device_that_comes_later_takes_over_what_is_there(files: dict[str, str], tmp_path: Path) -> None:
    together({**files, "device": "t4,l4"}, tmp_path / "run").report()
    observer = Recorder()
    together({**files, "device": "rtx4090,a10"}, tmp_path / "run", observer).report()
    assert not set(observer.stages) & {*ONCE, "Comparing with Polygraphy"}
    record = [read_manifest(tmp_path / "run" / name).stages["sensitivity"] for name in ("t4", "a10")]  # type: ignore[union-attr]
    assert record[0] == record[1]


def test_a_run_folder_of_a_device_stands_alone(
    done: tuple[Path, Recorder, DeviceComparison], files: dict[str, str]
) -> None:
    folder, _, comparison = done
    observer = Recorder()
    assert (
        start({**files, "device": "t4"}, folder / "t4", observer, latency="modelled", **GOAL)
        .search()
        .chosen.plan.digest
    )
    assert observer.stages == []
    with pytest.raises(RunFolderError, match=r"several devices \(l4, narrow, slow, t4\): give one .* as in .*run/l4"):
        require_one_device(folder)
    require_one_device(folder / "t4")
    assert comparison.devices[1].folder == "t4"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "l4,t4", "precisions": "fp16,fp8"}, "t4 has no fp8 arithmetic"),
        ({"device": "l4,orin-agx,t4", "precisions": "bf16,int8"}, "t4 has no bf16 arithmetic"),
        ({"device": "l4,h1000"}, "unknown device 'h1000'"),
        ({"device": "l4,t4,l4"}, "--device names l4 twice"),
        ({"device": "l4,gpus/l4.toml"}, "--device names l4 twice"),
        ({"device": "l4,t4", "latency": "measured"}, "--latency measured is of one device and --device names 2"),
        ({"device": "l4,t4", "latency": "table.json"}, "--latency table.json is of one device"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    settings: dict[str, str], said: str, files: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=said):
        together(files, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_an_engine_that_cannot_be_had_for_one_device_is_refused_before_the_first(
    files: dict[str, str], tmp_path: Path
) -> None:
    observer = Recorder()
    run = together(files, tmp_path / "run", observer, device="l4,h100", engine={"build": "always"})
    with pytest.raises(TrtMpqError, match="l4: "):
        run.report()
    assert observer.stages == []


def test_one_kind_of_folder_is_no_other(files: dict[str, str], tmp_path: Path) -> None:
    start({**files, "device": "l4"}, tmp_path / "one", latency="modelled").inspect()
    with pytest.raises(RunFolderError, match="holds a run for one device: choose another folder"):
        together(files, tmp_path / "one")


def test_the_folders_are_held_while_others_want_them(files: dict[str, str], tmp_path: Path) -> None:
    run = together({**files, "device": "l4,t4"}, tmp_path / "run")
    assert [folder.name for folder in run.folders] == ["l4", "t4"]
    run.report()
    run.release()
    assert read_manifest(tmp_path / "run").settings["device"] == "l4,t4"  # type: ignore[union-attr]


def test_the_gpu_of_this_machine_builds_for_the_device_that_it_is(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpu_names", lambda: ("NVIDIA GeForce RTX 4090",))
    asked = settings_from({**files, "device": "l4,rtx4090"}, "test")
    found = settings_by_device(asked)
    assert {name: own.engine.build for name, own in found.items()} == {"l4": "never", "rtx4090": "auto"}
    assert {own.latency for own in found.values()} == {"modelled"}
    with pytest.raises(SettingsError, match="l4: --engine builds on the GPU of this machine, which is rtx4090"):
        settings_by_device(asked.model_copy(update={"engine": asked.engine.model_copy(update={"build": "always"})}))
    monkeypatch.setattr(devices, "gpu_names", lambda: ("Some GPU",))
    assert {own.engine.build for own in settings_by_device(asked).values()} == {"never"}
