"""`trt-mpq triton`: the engine as a model repository of Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli import options

Repository = Annotated[Path, typer.Option("--output", "-o", help="Model repository; created if absent.")]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Name of the model there (default: that of the run folder).", show_default=False),
]


def triton(
    run_dir: options.RunDir,
    output: Repository = Path("model_repository"),
    name: Name = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Export the engine of a run folder as a Triton Inference Server model: config.pbtxt and model.plan."""
    from rich.text import Text

    from trt_mpq.cli.output import Output
    from trt_mpq.engine.run import export_to_triton

    sink = Output(quiet=quiet, json=json)
    sink.result(str(export_to_triton(run_dir, output, name)), str, Text)
