"""`trt-mpq triton`: the engine as a model repository of Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli.options import RunDir, Verify
from trt_mpq.cli.output import Output


def triton(
    run_dir: RunDir,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model repository; created if absent.")] = Path(
        "model_repository"
    ),
    name: Annotated[str | None, typer.Option(help="Name of the model there (default: that of the run folder).")] = None,
    verify: Verify = None,
    sink: Output,
) -> None:
    """Export the engine of a run folder as a Triton Inference Server model: config.pbtxt and model.plan."""
    from rich.text import Text

    from trt_mpq.engine.run import export_to_triton

    sink.result(str(export_to_triton(run_dir, output, name, verify)), str, Text)
