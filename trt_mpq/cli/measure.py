"""`trt-mpq measure`: what every group costs on this machine's GPU."""

from __future__ import annotations

from typing import Annotated, Any

from trt_mpq.api.opening import open_device
from trt_mpq.cli.options import RunDir, Takes, Trust
from trt_mpq.cli.output import Output

_OF_SHIPPED_ENGINES = ("build", "version_compatible", "hardware_compatible", "refit", "input_sets", "margin")


def measure(
    run_dir: RunDir,
    *,
    given: Annotated[dict[str, Any], Takes("Engine", "Timing", without=_OF_SHIPPED_ENGINES)],
    sink: Output,
    trust: Trust = False,
) -> None:
    """Time a handful of engines of a calibrated run on this machine, and keep what every group costs as a device table.

    A search, here or on another machine, takes its latencies from RUN_DIR/device-table.json.
    """
    from trt_mpq.cli.tables import latencies_table
    from trt_mpq.latency.device_table import DeviceTable

    sink.result(open_device(run_dir, given, sink, trust=trust).measure(), DeviceTable, latencies_table)
