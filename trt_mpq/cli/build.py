"""`trt-mpq build`: the whole way from a model to a plan, an engine and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from trt_mpq.api.opening import open_build
from trt_mpq.cli.options import Details, NewRunDir, Sign, Source, Takes, Trust
from trt_mpq.cli.output import Output


def build(
    source: Source,
    *,
    given: Annotated[dict[str, Any], Takes()],
    output: NewRunDir = Path("run"),
    sink: Output,
    trust: Trust = False,
    sign: Sign = None,
    details: Details = False,
) -> None:
    """Find the fastest plan that meets the accuracy target; write it as ONNX, and where there is a GPU as an engine.

    Options override the job file. Interrupted, the same command goes on where it stopped.
    """
    from trt_mpq.engine.shipping import signing

    with signing(output, sign, sink):
        report = open_build(source, given, output, sink, trust=trust).report()
    sink.report(report, output, details)
