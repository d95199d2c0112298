"""`trt-mpq inspect`: the groups of a model."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.cli import options
from trt_mpq.cli.opening import open_inspection


def inspect(
    source: options.Source,
    calib: options.Calib = None,
    exclusions: options.Exclusions = None,
    batch: options.Batch = None,
    output: options.Output = Path("run"),
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Prepare the model and show its groups: what shares a precision, and what stays out of which.

    Data is needed only if a dimension besides the batch is dynamic. The other stages go on in the same run folder.
    """
    given = options.settings_given(locals())
    from trt_mpq.cli.output import Output
    from trt_mpq.cli.tables import groups_table
    from trt_mpq.types import Grouping

    sink = Output(quiet=quiet, json=json)
    sink.result(open_inspection(source, given, output, sink).inspect(), Grouping, groups_table)
