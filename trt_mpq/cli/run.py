"""`trt-mpq run`: an engine on data, if it belongs to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_mpq.cli.options import Trust, Verify
from trt_mpq.cli.output import Output

_Engine = typer.Argument(metavar="ENGINE", show_default=False, help="engine.plan with its manifest, or a run folder.")
_Samples = typer.Option(
    "--input", "-i", help="Samples: .npz, .npy, folder of images, recipe file, or recipe name[:split]."
)
_Preprocess = typer.Option(
    help="How the images of a folder become the input, as for `build` (default: beside the engine)."
)
_Plugins = typer.Option("--plugins", help="Plugin library to load in place of the manifest's (may be repeated).")
_Arrays = typer.Option("--output", "-o", help="Where the outputs go, one array per output.")


def run(
    engine: Annotated[Path, _Engine],
    input: Annotated[str, _Samples],
    *,
    output: Annotated[Path, _Arrays] = Path("outputs.npz"),
    preprocess: Annotated[str | None, _Preprocess] = None,
    plugins: Annotated[list[Path] | None, _Plugins] = None,
    verify: Verify = None,
    trust: Trust = False,
    sink: Output,
) -> None:
    """Run an engine on samples and write its outputs.

    Refused if the engine was changed, or was made for another GPU or TensorRT, and with --verify if its manifest is not
    signed. Plugin libraries that the manifest names are code: they are loaded if --plugins names them, or the signature
    is verified, or with --trust.
    """
    from trt_mpq.cli.tables import outputs_table
    from trt_mpq.dataset.pixels import pixels_from
    from trt_mpq.engine.run import OutputArray, run_engine

    pixels = pixels_from(preprocess, engine)
    made = run_engine(engine, input, output, sink, plugins=plugins or (), key=verify, trust=trust, pixels=pixels)
    sink.result(made, tuple[OutputArray, ...], outputs_table)
