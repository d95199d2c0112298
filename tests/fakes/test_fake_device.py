"""The pretended GPU: memory that catches wrong addresses, a simulated clock, NVML."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.device import Log, Runner, build, context, layers, load, tensorrt
from tests.fakes.samples import images, network

pytest_plugins = ["tests.fakes.fixtures"]

Pretend = Callable[..., Path]
WEAK_INT8 = ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS")


def test_wrong_addresses_are_caught(fake_gpu: Path) -> None:
    with context() as cuda:
        runner = Runner(cuda, build(network()) or b"", 2)
        x = images(2)
        with pytest.raises(cuda.LogicError, match="not in an allocation"):
            cuda.memcpy_htod_async(int(runner.addresses["x"]) + 4, x, runner.stream)
        with pytest.raises(cuda.LogicError, match="not in an allocation"):
            cuda.memcpy_dtoh_async(np.zeros(21, np.float32), runner.addresses["y"], runner.stream)
        runner.addresses["y"].free()
        assert not runner.execution.execute_async_v3(runner.stream.handle)
        assert "illegal memory access" in runner.log.errors[-1]


def test_an_address_that_was_never_set_is_refused(fake_gpu: Path) -> None:
    with context() as cuda:
        execution = load(build(network()) or b"", log := Log()).create_execution_context()
        execution.set_input_shape("x", (1, 3, 8, 8))
        assert not execution.execute_async_v3(cuda.Stream(1).handle)
        assert "Address is not set for tensors ['x', 'y']" in log.errors[-1]


def test_memory_runs_out(pretend_gpu: Pretend) -> None:
    pretend_gpu(memory_mib=1)
    with context() as cuda:
        first = cuda.mem_alloc(1 << 19)
        with pytest.raises(cuda.MemoryError):
            cuda.mem_alloc((1 << 19) + 1)
        first.free()
        assert cuda.mem_get_info() == (1 << 20, 1 << 20)


def test_work_needs_a_current_context(fake_gpu: Path) -> None:
    with context() as cuda:
        pass
    with pytest.raises(cuda.LogicError, match="invalid device context"):
        cuda.mem_alloc(4)


def median(runner: Runner) -> float:
    return float(np.median([runner.milliseconds() for _ in range(9)]))


def test_narrow_formats_are_faster_unless_told_otherwise(pretend_gpu: Pretend) -> None:
    def times(**behaviour: float) -> list[float]:
        pretend_gpu(**behaviour)
        plans = [
            build(network(), strong=False),
            build(network(), strong=False, flags=("FP16",)),
            build(network(("stem", "left", "right")), strong=False, flags=WEAK_INT8),
        ]
        with context() as cuda:
            runners = [Runner(cuda, plan or b"", 8) for plan in plans]
            for runner in runners:
                runner(images(8))
            return [median(runner) for runner in runners]

    fp32, fp16, int8 = times()
    assert fp32 > 1.5 * fp16 > 1.5 * 1.3 * int8
    fp32, fp16, int8 = times(eight_bit_slowdown=3.0)
    assert fp32 > fp16
    assert int8 > fp16


def test_layer_times_add_up_to_the_inference(fake_gpu: Path) -> None:
    class Times(tensorrt().IProfiler):
        def __init__(self) -> None:
            tensorrt().IProfiler.__init__(self)
            self.found: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.found[layer_name] = ms

    plan = build(network()) or b""
    with context() as cuda:
        runner = Runner(cuda, plan, 8)
        runner(images(8))
        runner.execution.profiler = times = Times()
        total = runner.milliseconds()
    assert list(times.found) == [layer["Name"] for layer in layers(plan)]
    assert sum(times.found.values()) == pytest.approx(total, rel=0.05)


def test_a_graph_replays_the_work_at_less_host_time(pretend_gpu: Pretend) -> None:
    pretend_gpu(enqueue_us=1000.0)
    from trt_mpq.runtime.cuda import _driver_library

    library, graph, executable = _driver_library(), ctypes.c_void_p(), ctypes.c_void_p()
    with context() as cuda:
        runner = Runner(cuda, build(network()) or b"", 8)
        first = runner(images(8)).copy()
        launch_bound = runner.milliseconds()
        handle = ctypes.c_void_p(runner.stream.handle)
        assert library.cuStreamBeginCapture_v2(handle, ctypes.c_int(1)) == 0
        assert runner.execution.execute_async_v3(runner.stream.handle)
        assert library.cuStreamEndCapture(handle, ctypes.byref(graph)) == 0
        assert library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)) == 0
        assert library.cuGraphDestroy(graph) == 0
        # The graph keeps the addresses and shapes of its capture.
        runner.execution.set_tensor_address("y", int(runner.addresses["x"]))
        runner.execution.set_input_shape("x", (1, 3, 8, 8))
        cuda.memcpy_htod_async(runner.addresses["x"], images(8)[::-1].copy(), runner.stream)
        began, ended = cuda.Event(), cuda.Event()
        began.record(runner.stream)
        assert library.cuGraphLaunch(executable, handle) == 0
        ended.record(runner.stream)
        ended.synchronize()
        cuda.memcpy_dtoh_async(runner.output, runner.addresses["y"], runner.stream)
        assert library.cuGraphExecDestroy(executable) == 0
        assert library.cuGraphLaunch(executable, handle) != 0
    np.testing.assert_allclose(runner.output, first[::-1], rtol=1e-5, atol=1e-5)
    assert launch_bound > 1.5 * ended.time_since(began)


def test_nvml_tells_the_state_of_the_gpu(pretend_gpu: Pretend) -> None:
    pretend_gpu(driver="570.1")
    nvml = importlib.import_module("pynvml")
    with pytest.raises(nvml.NVMLError):
        nvml.nvmlSystemGetDriverVersion()
    nvml.nvmlInit()
    gpu = nvml.nvmlDeviceGetHandleByPciBusId("0000:01:00.0")
    assert nvml.nvmlSystemGetDriverVersion() == "570.1"
    assert nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM) > 0
    nvml.nvmlShutdown()


def test_without_a_driver_nothing_starts(pretend_gpu: Pretend) -> None:
    pretend_gpu(available=False)
    trt = tensorrt()
    log = Log()
    with pytest.raises(TypeError, match="factory function returned nullptr"):
        trt.Builder(log.logger())
    assert "CUDA initialization failure" in log.errors[0]
    cuda = importlib.import_module("pycuda.driver")
    with pytest.raises(cuda.Error, match="no CUDA-capable device"):
        cuda.init()
    nvml = importlib.import_module("pynvml")
    with pytest.raises(nvml.NVMLError):
        nvml.nvmlInit()


def test_time_passes_for_idle_streams_too(pretend_gpu: Pretend) -> None:
    pretend_gpu(enqueue_us=1000.0)
    with context() as cuda:
        runner, idle = Runner(cuda, build(network()) or b"", 1), cuda.Stream(1)
        runner(images(1))
        began, ended = cuda.Event().record(idle), cuda.Event()
        cuda.memcpy_htod_async(runner.addresses["x"], images(1), idle)
        ended.record(idle).synchronize()
        # One enqueue, not the seven before.
        assert ended.time_since(began) == pytest.approx(1.0, abs=0.1)
