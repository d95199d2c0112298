"""`trt-mpq build`: the whole way from a model to a plan, an engine and a report."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from trt_mpq.api.opening import open_build
from trt_mpq.cli.options import Details, DryRun, NewRunDir, SaveEngine, Sign, Source, Takes, Trust
from trt_mpq.cli.output import Output
from trt_mpq.errors import SettingsError


def build(
    source: Source,
    *,
    given: Annotated[dict[str, Any], Takes(brief=True)],
    output: NewRunDir = Path("run"),
    sink: Output,
    trust: Trust = False,
    sign: Sign = None,
    details: Details = False,
    save_engine: SaveEngine = None,
    dry_run: DryRun = False,
) -> None:
    """Find the fastest plan that meets the accuracy target; write it as ONNX, and where there is a GPU as an engine.

    Options override the job file. Interrupted, the same command goes on where it stopped. The options here are those of
    daily use: --help-all shows the others.
    """
    from trt_mpq.engine.shipping import save_copy, signing

    if dry_run:
        from trt_mpq.api.outlook import Outlook, outlook_of
        from trt_mpq.cli.tables import outlook_text

        sink.result(outlook_of(open_build(source, given, output, sink, trust=trust)), Outlook, outlook_text)
        return
    run = open_build(source, given, output, sink, trust=trust)
    if save_engine is not None and len(run.folders) > 1:
        raise SettingsError("--save-engine takes the engine of one device: leave it out, or name one with --device")
    with ExitStack() as signed:
        for folder in run.folders:
            signed.enter_context(signing(folder, sign, sink))
        report = run.report()
    sink.report(report, output, details)
    if save_engine is not None:
        save_copy(output, save_engine)
