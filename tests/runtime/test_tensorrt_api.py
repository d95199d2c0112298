"""What is found out about a TensorRT, on the recorded API of three versions and on installations that are broken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.runtime.recorded_tensorrt import recorded
from trt_mpq.errors import MissingDependencyError, RuntimeFailure, SettingsError
from trt_mpq.runtime.tensorrt import flavour
from trt_mpq.runtime.tensorrt.api import Capabilities, bits, capabilities, resolve_typing
from trt_mpq.runtime.tensorrt.flavour import flavour_in_use, load_tensorrt, using
from trt_mpq.runtime.tensorrt.logger import BuildLog, errors_in

BOTH = Capabilities("10.16.1.11", strong_typing=True, weak_typing=True, fp8=True)
WEAK = Capabilities("8.6.0", strong_typing=False, weak_typing=True, fp8=False)
RTX = Capabilities("1.7.1.116", strong_typing=True, weak_typing=False, fp8=True)
STRONG = Capabilities("11.4.0.106", strong_typing=True, weak_typing=False, fp8=True)


MODULES = ("tensorrt", "tensorrt_rtx_bindings")


@pytest.fixture
def no_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is searched first, with whatever TensorRT is installed forgotten; what comes from it goes again."""
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        del sys.modules[name]


@pytest.mark.parametrize(("version", "expected"), [("8.6", WEAK), ("10.16", BOTH), ("11.4", STRONG)])
def test_capabilities_follow_from_the_names_a_version_has(
    version: str, expected: Capabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", recorded(version))  # type: ignore[arg-type]
    assert capabilities() == expected


def test_rtx_is_asked_the_same_and_is_strong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", recorded("8.6"))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", recorded("rtx-1.7"))  # type: ignore[arg-type]
    monkeypatch.setattr(flavour, "version", lambda name: "1.7.1.116")
    assert capabilities("rtx") == RTX
    assert capabilities() == WEAK


def test_a_later_version_that_drops_the_idle_flag_is_still_strong(monkeypatch: pytest.MonkeyPatch) -> None:
    later = recorded("11.4")
    del later.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    monkeypatch.setitem(sys.modules, "tensorrt", later)  # type: ignore[arg-type]
    assert capabilities().strong_typing


@pytest.mark.parametrize(
    ("wanted", "found", "typing"),
    [
        ("auto", WEAK, "weak"),
        ("auto", BOTH, "strong"),
        ("auto", STRONG, "strong"),
        ("weak", WEAK, "weak"),
        ("weak", BOTH, "weak"),
        ("strong", BOTH, "strong"),
        ("strong", STRONG, "strong"),
    ],
)
def test_typing_is_as_asked_and_by_default_strong(wanted: str, found: Capabilities, typing: str) -> None:
    assert resolve_typing(wanted, found) == typing  # type: ignore[arg-type]


@pytest.mark.parametrize(("wanted", "found", "version"), [("strong", WEAK, "8.6.0"), ("weak", STRONG, "11.4.0.106")])
def test_typing_that_a_version_lacks_is_refused(wanted: str, found: Capabilities, version: str) -> None:
    with pytest.raises(SettingsError, match=f"^TensorRT {version} has no {wanted} typing: choose typing "):
        resolve_typing(wanted, found)  # type: ignore[arg-type]


def test_a_mask_holds_the_flags_that_exist() -> None:
    assert bits(SimpleNamespace(A=0, B=3), "A", "B", "C") == 0b1001


def test_absent_tensorrt_comes_with_the_command_that_installs_it(
    no_tensorrt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(no_tensorrt)])
    with pytest.raises(MissingDependencyError, match=r"run `pip install '\.\[tensorrt\]'`"):
        load_tensorrt()


def test_a_mere_folder_of_that_name_is_not_tensorrt(no_tensorrt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (no_tensorrt / "tensorrt").mkdir()
    monkeypatch.setattr(sys, "path", [str(no_tensorrt)])
    with pytest.raises(MissingDependencyError, match="tensorrt is not installed"):
        load_tensorrt()
    assert "tensorrt" not in sys.modules, "torch would take the folder for TensorRT"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("raise ImportError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer.so.10: cannot open"),
        ("raise OSError('libcudart.so.12: file too short')", "libcudart.so.12: file too short"),
        ("import tensorrt_bindings_that_pip_lost", "No module named 'tensorrt_bindings_that_pip_lost'"),
    ],
)
def test_tensorrt_that_cannot_be_loaded_is_not_called_absent(no_tensorrt: Path, content: str, cause: str) -> None:
    (no_tensorrt / "tensorrt.py").write_text(content)
    with pytest.raises(RuntimeFailure, match=rf"tensorrt is installed but cannot be loaded \({cause}"):
        load_tensorrt()


def test_flavours_nest_and_end_with_their_block() -> None:
    with using("rtx"):
        with using("tensorrt"):
            assert flavour_in_use() == "tensorrt"
        assert flavour_in_use() == "rtx"
    assert flavour_in_use() == "tensorrt"


def test_rtx_that_is_absent_comes_with_the_command_that_installs_it(
    no_tensorrt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(no_tensorrt)])
    with using("rtx"), pytest.raises(MissingDependencyError, match=r"engines without a GPU needs it: .*\[rtx\]'`"):
        load_tensorrt()


def test_bindings_of_rtx_without_its_libraries_are_no_rtx(no_tensorrt: Path) -> None:
    (no_tensorrt / "tensorrt_rtx_bindings.py").write_text("raise ImportError('libtensorrt_rtx.so.1: cannot open')")
    with using("rtx"), pytest.raises(RuntimeFailure, match=r"cannot be loaded \(libtensorrt_rtx.*\): reinstall"):
        load_tensorrt()


def test_libraries_of_another_version_of_rtx_are_refused(no_tensorrt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (no_tensorrt / "tensorrt_rtx_bindings.py").write_text("__version__ = '1.7.1.116'")
    monkeypatch.setattr(flavour, "version", lambda name: "1.6.1.120")
    with (
        using("rtx"),
        pytest.raises(
            RuntimeFailure,
            match=r"two versions, 1\.7\.1\.116 of tensorrt_rtx_bindings and 1\.6\.1\.120 of tensorrt-rtx-cu12-libs",
        ),
    ):
        load_tensorrt()


def test_the_module_itself_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tensorrt")
    module.__version__ = "10.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert load_tensorrt() is module


def test_a_log_is_on_disk_line_by_line_and_errors_are_found_among_other_output(tmp_path: Path) -> None:
    path = tmp_path / "plan.log"
    log = BuildLog(path)
    log.warning("slow\nkernel")
    with path.open("a") as other:
        other.write("terminate called\n")
    log.error("Error Code 10:\n  no kernel")
    assert path.read_text() == "[W] slow kernel\nterminate called\n[E] Error Code 10: no kernel\n"
    assert errors_in(path) == log.errors == ("Error Code 10: no kernel",)


def test_a_log_that_cannot_be_written_keeps_errors_and_never_raises(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "absent" / "plan.log")
    log.error("no kernel")
    assert log.errors == ("no kernel",)


def test_no_log_means_no_errors(tmp_path: Path) -> None:
    assert errors_in(tmp_path / "plan.log") == ()
