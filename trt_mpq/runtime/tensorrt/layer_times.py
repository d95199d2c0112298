"""Times of single layers, through TensorRT's profiler and in a run of their own.

The profiler makes layers run one by one, so their sum is not the latency. A reformat is a layer of its own here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from trt_mpq.types.engine import LayerTime

if TYPE_CHECKING:
    import tensorrt as trt

_Report = list[tuple[str, float]]
"""Name and milliseconds of every layer of one inference, in the engine's order."""


def profile_layers(context: trt.IExecutionContext, run: Callable[[], None], iterations: int) -> tuple[LayerTime, ...]:
    """Median time of every layer over `iterations` inferences, after one that is not counted.

    Args:
        context: An execution context with its addresses set, which is not used for anything else.
        run: Enqueues one inference in `context`, without a CUDA graph, and waits for it.
        iterations: At least one.
    """
    from trt_mpq.runtime.tensorrt.flavour import trt

    reports: list[_Report] = []

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # super() would leave the C++ half of the object unmade

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            reports[-1].append((layer_name, ms))

    context.profiler = Profiler()
    context.enqueue_emits_profile = True
    for _ in range(iterations + 1):
        reports.append([])
        run()
    return _median_times(reports[1:])


def _median_times(reports: Sequence[_Report]) -> tuple[LayerTime, ...]:
    """Median per layer over the reports, in order; layers that share a name stay apart, by their occurrence."""
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    for report in reports:
        seen: dict[str, int] = defaultdict(int)
        for name, ms in report:
            times[name, seen[name]].append(ms)
            seen[name] += 1
    return tuple(LayerTime(name, median(values)) for (name, _), values in times.items())
