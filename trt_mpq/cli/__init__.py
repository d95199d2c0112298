"""The command line: one file per command, registered here.

Nothing heavy is imported before a command runs, so that `trt-mpq --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trt_mpq import __version__
from trt_mpq.cli.build import build
from trt_mpq.cli.calibrate import calibrate
from trt_mpq.cli.compare import compare
from trt_mpq.cli.demo import demo
from trt_mpq.cli.doctor import doctor
from trt_mpq.cli.emit import emit
from trt_mpq.cli.engine import engine
from trt_mpq.cli.errors import guarded
from trt_mpq.cli.export import export
from trt_mpq.cli.inspect import inspect
from trt_mpq.cli.lint import lint
from trt_mpq.cli.measure import measure
from trt_mpq.cli.report import report
from trt_mpq.cli.run import run
from trt_mpq.cli.search import search
from trt_mpq.cli.sensitivity import sensitivity
from trt_mpq.cli.triton import triton

app = typer.Typer(
    name="trt-mpq",
    help="From a trained network to the fastest TensorRT engine that still meets its accuracy target.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS = {
    "Start here": (build, export, demo, doctor),
    "Stages, each alone": (inspect, calibrate, sensitivity, search, emit, compare, report),
    "On the device": (engine, measure, run, triton),
    "For any network": (lint,),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(_command.__name__, rich_help_panel=_panel)(guarded(_command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trt-mpq {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 gets question marks instead of a crash.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    app()
