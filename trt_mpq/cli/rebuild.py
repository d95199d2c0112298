"""`trt-mpq rebuild`: a run done again from its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trt_mpq.api.rebuild import Rebuilt
from trt_mpq.api.rebuild import rebuild as done_again
from trt_mpq.cli.options import NewRunDir, Takes, Trust
from trt_mpq.cli.output import Output

_Manifest = Annotated[
    Path, typer.Argument(metavar="MANIFEST", show_default=False, help="manifest.json of a finished run, or its folder.")
]


def rebuild(
    manifest: _Manifest,
    *,
    given: Annotated[dict[str, Any], Takes("model", "calib", "eval", "threads", "workers")],
    output: NewRunDir = Path("rebuilt"),
    sink: Output,
    trust: Trust = False,
) -> None:
    """Do a run again from its manifest, in another folder: the same bytes, or an error that says what differs.

    Engines are not built again: their bytes are the builder's own. Options say where model and data lie here.
    """
    from trt_mpq.cli.tables import rebuilt_table

    sink.result(done_again(manifest, given, output, sink, trust=trust), Rebuilt, rebuilt_table)
