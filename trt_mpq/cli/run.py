"""`trt-mpq run`: an engine on data, if it belongs to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli import options

EnginePath = Annotated[
    Path, typer.Argument(metavar="ENGINE", show_default=False, help="engine.plan with its manifest, or a run folder.")
]
Input = Annotated[
    str,
    typer.Option("--input", "-i", help="Samples: .npz, .npy, recipe file, or recipe name[:split].", show_default=False),
]
Outputs = Annotated[Path, typer.Option("--output", "-o", help="Where the outputs go, one array per output.")]


def run(
    engine: EnginePath,
    input: Input,
    output: Outputs = Path("outputs.npz"),
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Run an engine on samples and write its outputs.

    Refused if the engine or its manifest was changed, or was made for another GPU or TensorRT.
    """
    from trt_mpq.cli.engine_tables import outputs_table
    from trt_mpq.cli.output import Output
    from trt_mpq.engine.run import OutputArray, run_engine

    sink = Output(quiet=quiet, json=json)
    sink.result(run_engine(engine, input, output, sink), tuple[OutputArray, ...], outputs_table)
