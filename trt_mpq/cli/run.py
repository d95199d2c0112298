"""`trt-mpq run`: an engine on data, if it belongs to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli.output import Output

_Engine = typer.Argument(metavar="ENGINE", show_default=False, help="engine.plan with its manifest, or a run folder.")
_Samples = typer.Option("--input", "-i", help="Samples: .npz, .npy, recipe file, or recipe name[:split].")
_Arrays = typer.Option("--output", "-o", help="Where the outputs go, one array per output.")


def run(
    engine: Annotated[Path, _Engine],
    input: Annotated[str, _Samples],
    *,
    output: Annotated[Path, _Arrays] = Path("outputs.npz"),
    sink: Output,
) -> None:
    """Run an engine on samples and write its outputs.

    Refused if the engine or its manifest was changed, or was made for another GPU or TensorRT.
    """
    from trt_mpq.cli.tables import outputs_table
    from trt_mpq.engine.run import OutputArray, run_engine

    sink.result(run_engine(engine, input, output, sink), tuple[OutputArray, ...], outputs_table)
