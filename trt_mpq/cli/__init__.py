"""The command line: one file per command.

Nothing heavy is imported before a command runs, so that `trt-mpq --help` answers at once. The options of a command are
made from the settings only when it is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trt_mpq import __version__
from trt_mpq.cli.errors import reader_may_leave, stop_on_signals
from trt_mpq.cli.options import typer_function
from trt_mpq.cli.trtexec_words import COMMANDS, translated
from trt_mpq.errors import SettingsError
from trt_mpq.workers.streams import take_standard_output

_STANDARD_STREAMS = 3

_COMMANDS = {
    "Start here": ("build", "export", "demo", "doctor"),
    "Stages, each alone": ("inspect", "calibrate", "sensitivity", "search", "emit", "compare", "report", "rebuild"),
    "On the device": ("engine", "measure", "run", "bisect", "triton"),
    "For any network": ("lint",),
}
"""The panels of the help and their commands, each the function of a module that is called like it."""


class _Commands(TyperGroup):
    """Commands without options, which they get when they are asked for."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """What the words of the command line say; the help is printed here."""
        with reader_may_leave():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, or print its help."""
        with reader_may_leave():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that `args` name, with its options, and its arguments."""
        name, listed, rest = super().resolve_command(ctx, args)
        if name is None:
            return name, listed, rest
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(typer_function(_command(name)))
        return name, typer.main.get_command(alone), _understood(name, rest)


def _understood(name: str, words: list[str]) -> list[str]:
    """Arguments of a command, with trtexec's words as ours where the command knows them."""
    if name not in COMMANDS:
        return words
    try:
        return translated(words)
    except SettingsError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from error


def _command(name: str) -> Callable[..., None]:
    command: Callable[..., None] = getattr(import_module(f"trt_mpq.cli.{name}"), name)
    return command


app = typer.Typer(
    name="trt-mpq",
    cls=_Commands,
    help="From a trained network to the fastest TensorRT engine that still meets its accuracy target.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _panel, _names in _COMMANDS.items():
    for _name in _names:
        app.command(_name, help=_command(_name).__doc__, rich_help_panel=_panel)(lambda: None)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trt-mpq {__version__}")
        raise typer.Exit


def _require_utf8() -> None:
    """End with a sentence if an argument or the working directory is no UTF-8: what JSON has to name later."""
    for word in (*sys.argv[1:], os.getcwd()):  # noqa: PTH109
        try:
            word.encode()
        except UnicodeEncodeError:
            sys.stderr.write(f"error: {word.encode(errors='replace').decode()} is no UTF-8: rename it\n")
            sys.exit(2)


def _require_docstrings() -> None:
    """End with a sentence where Python drops docstrings: the help is made of them, and Polygraphy fails without."""
    if sys.flags.optimize > 1:
        sys.stderr.write("error: Polygraphy and the help need docstrings: run without PYTHONOPTIMIZE=2 (python -OO)\n")
        sys.exit(2)


def _open_standard_streams() -> None:
    """Put the null device in place of standard streams that are closed, or the next file would become one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < _STANDARD_STREAMS:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit the process."""
    _open_standard_streams()
    _require_utf8()
    _require_docstrings()
    stop_on_signals()
    take_standard_output()
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 gets question marks instead of a crash.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    app()
