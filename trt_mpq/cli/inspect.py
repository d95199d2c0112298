"""`trt-mpq inspect`: the groups of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from trt_mpq.api.opening import open_inspection
from trt_mpq.cli.options import NewRunDir, Source, Takes
from trt_mpq.cli.output import Output


def inspect(
    source: Source,
    *,
    given: Annotated[
        dict[str, Any], Takes("calib", "preprocess", "exclusions", "batch", "batch_axis", "states", "device", "flavour")
    ],
    output: NewRunDir = Path("run"),
    sink: Output,
) -> None:
    """Prepare the model and show its groups: what shares a precision, and what stays out of which.

    Data is needed only if a dimension besides the batch is dynamic. The other stages go on in the same run folder.
    """
    from trt_mpq.cli.tables import groups_table
    from trt_mpq.types import Grouping

    sink.result(open_inspection(source, given, output, sink).inspect(), Grouping, groups_table)
