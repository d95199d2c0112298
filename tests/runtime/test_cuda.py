"""CUDA through pycuda, on a pretended device."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.fakes.fixtures import PretendGpu, fake_gpu, pretend_gpu  # noqa: F401 - fixtures
from trt_mpq.errors import MissingDependencyError, RuntimeFailure
from trt_mpq.runtime import cuda
from trt_mpq.runtime.cuda import Buffer, CudaDevice, CudaGraph, Event, Stream, device, failures, primary_context


@pytest.mark.usefixtures("fake_gpu")
def test_the_device_is_described() -> None:
    assert device() == CudaDevice("Fake H200", 90, "580.82.07", "13.0", "0000:01:00.0")


def test_versions_have_two_parts(pretend_gpu: PretendGpu) -> None:  # noqa: F811
    pretend_gpu(cuda=12040, sm=120)
    assert (device().cuda, device().sm) == ("12.4", 120)


@pytest.mark.usefixtures("fake_gpu")
def test_bytes_survive_the_way_to_the_device_and_back() -> None:
    with primary_context():
        stream, buffer = Stream(), Buffer(10)
        buffer.host[:] = np.arange(10)
        buffer.upload(stream)
        stream.synchronize()
        buffer.host[:] = 0
        buffer.download(stream)
        stream.synchronize()
        np.testing.assert_array_equal(buffer.host, np.arange(10))
        buffer.close()


@pytest.mark.usefixtures("fake_gpu")
def test_a_buffer_of_nothing_is_one() -> None:
    with primary_context():
        buffer = Buffer(0)
        assert buffer.host.shape == (0,)
        buffer.close()


@pytest.mark.usefixtures("fake_gpu")
def test_events_time_what_lies_between_them() -> None:
    with primary_context():
        stream, other, buffer = Stream(), Stream(), Buffer(4_000_000)
        began, ended, later = Event(), Event(), Event()
        began.record(stream)
        buffer.upload(stream)
        ended.record(stream)
        other.wait_for(ended)
        later.record(other)
        later.synchronize()
        assert ended.ms_since(began) == pytest.approx(1.0, rel=0.1)  # four megabytes at four gigabytes a second
        assert later.ms_since(began) >= ended.ms_since(began)
        buffer.close()


@pytest.mark.usefixtures("fake_gpu")
def test_a_full_gpu_is_said_so_and_nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    from pycuda import driver
    from trt_fake import world  # type: ignore[import-not-found]

    freed: list[object] = []
    monkeypatch.setattr(driver.PagelockedHostAllocation, "free", lambda allocation: freed.append(allocation))
    message = r"out of memory while allocating 5120\.0 MiB: use a smaller batch or fewer input sets"
    with primary_context(), pytest.raises(RuntimeFailure, match=message):
        Buffer(5 << 30)
    assert world.memory().used == 0
    assert len(freed) == 1


@pytest.mark.usefixtures("fake_gpu")
def test_contexts_nest_and_end() -> None:
    with primary_context():
        with primary_context():
            Stream()
        Stream()
    with pytest.raises(RuntimeFailure, match=r"CUDA failed while making a stream \(.*invalid device context"):
        Stream()


@pytest.mark.usefixtures("fake_gpu")
def test_only_errors_of_cuda_are_turned_into_failures() -> None:
    with pytest.raises(ZeroDivisionError), failures("dividing"):
        raise ZeroDivisionError


@pytest.mark.usefixtures("fake_gpu")
def test_a_graph_does_its_work_at_every_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    library, destroyed = cuda._driver_library(), []
    for name in ("cuGraphDestroy", "cuGraphExecDestroy"):
        monkeypatch.setattr(library, name, lambda _, name=name: destroyed.append(name))
    with primary_context():
        stream, buffer = Stream(), Buffer(3)
        graph = CudaGraph.capture(stream, lambda: buffer.upload(stream))
        for value in (7, 8):
            buffer.host[:] = value
            graph.launch(stream)
            stream.synchronize()
            buffer.host[:] = 0
            buffer.download(stream)
            stream.synchronize()
            assert list(buffer.host) == [value] * 3
        graph.close()
        buffer.close()
    assert destroyed == ["cuGraphDestroy", "cuGraphExecDestroy"]


@pytest.mark.parametrize(
    ("function", "doing"),
    [
        ("cuStreamBeginCapture_v2", "begin a CUDA graph"),
        ("cuStreamEndCapture", "capture a CUDA graph"),
        ("cuGraphInstantiateWithFlags", "instantiate a CUDA graph"),
    ],
)
@pytest.mark.usefixtures("fake_gpu")
def test_a_graph_that_cannot_be_captured_is_said_so(monkeypatch: pytest.MonkeyPatch, function: str, doing: str) -> None:
    monkeypatch.setattr(cuda._driver_library(), function, lambda *_: 901, raising=True)
    with primary_context(), pytest.raises(RuntimeFailure, match=rf"CUDA could not {doing}: CUDA_ERROR_\w+ \(901\)"):
        CudaGraph.capture(Stream(), lambda: None)


@pytest.mark.usefixtures("fake_gpu")
def test_a_failure_inside_a_capture_ends_the_capture() -> None:
    def broken() -> None:
        raise RuntimeFailure("no")

    with primary_context():
        stream, buffer = Stream(), Buffer(1)
        with pytest.raises(RuntimeFailure, match=r"^no$"):
            CudaGraph.capture(stream, broken)
        buffer.host[:] = 5
        buffer.upload(stream)  # runs now: a stream that still captured would only record it
        stream.synchronize()
        buffer.host[:] = 0
        buffer.download(stream)
        stream.synchronize()
        assert list(buffer.host) == [5]
        buffer.close()


def test_without_a_gpu_one_sentence(pretend_gpu: PretendGpu) -> None:  # noqa: F811
    pretend_gpu(available=False)
    with pytest.raises(RuntimeFailure, match=r"CUDA finds no usable GPU \(.*no CUDA-capable device.*--gpus all"):
        device()


def test_without_pycuda_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    with pytest.raises(MissingDependencyError, match=r"pycuda is not installed and .*`pip install .*'pycuda>="):
        device()


def test_without_a_driver_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = ModuleType("pycuda")
    package.__path__ = [str(tmp_path)]
    (tmp_path / "driver.py").write_text(
        "raise ImportError('libcuda.so.1: cannot open shared object file: No such file or directory')\n"
    )
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    with pytest.raises(RuntimeFailure, match=r"cannot load the CUDA driver \(libcuda.so.1: .*--gpus all"):
        device()
