"""The one output sink: results on standard output, everything about their making on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from trt_mpq.workers.streams import results

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trt_mpq.cli.bars import Bars
    from trt_mpq.report.comparison import DeviceComparison
    from trt_mpq.report.data import Report
    from trt_mpq.types import Evaluation

_T = TypeVar("_T")


class Output:
    """Shows a run to a person or a script; an `Observer`. Rich waits for the first, as no help needs it.

    On a terminal a stage is a bar that vanishes when the stage ends. Elsewhere it is a line that ends with its
    duration; where something else is said meanwhile, one of its own follows that.

    Args:
        quiet: Show neither progress nor tables.
        verbose: Show progress without a terminal too.
        json: Print results as JSON.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, json: bool = False) -> None:
        from rich.console import Console

        self._quiet = quiet
        self._json = json
        self._results = results()
        self._out = Console(file=self._results, highlight=False)
        self._err = Console(stderr=True, highlight=False, quiet=quiet)
        self._bars: Bars | None = None
        if self._err.is_terminal and not quiet:
            from trt_mpq.cli.bars import Bars

            self._bars = Bars(self._err)
        self._plans = 0
        self._verbose = verbose
        self._begun = ""

    @contextmanager
    def stage(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Show the stage while it works and its duration when it is done."""
        from rich.text import Text

        from trt_mpq.report.wording import duration_text

        started = time.monotonic()
        if self._bars:
            with self._bars.bar(title) as progress:
                yield progress
            self._say(f"{title}: {duration_text(time.monotonic() - started)}")
            return
        self._begin(title)
        try:
            yield self._told_in_lines(title) if self._verbose else _untold
        except BaseException:
            self._end_line()
            raise
        duration = duration_text(time.monotonic() - started)
        if self._begun == title:
            self._begun = ""
            self._err.print(Text(f" {duration}"), soft_wrap=True)
        else:
            self._say(f"{title}: {duration}")

    def _begin(self, title: str) -> None:
        """Begin a line that the end of the stage, or whatever else is said, ends."""
        from rich.text import Text

        from trt_mpq.report.wording import printable

        self._end_line()
        self._err.print(Text(f"{printable(title)} ..."), soft_wrap=True, end="")
        self._begun = title

    def _end_line(self) -> None:
        if self._begun:
            self._begun = ""
            self._err.print()

    def _told_in_lines(self, title: str) -> Callable[[int, int], None]:
        """Progress as a line for every tenth."""
        told = 0

        def tell(done: int, total: int) -> None:
            nonlocal told
            if total and (tenths := 10 * done // total) > told:
                told = tenths
                self._say(f"{title}: {done:,} of {total:,}")

        return tell

    def evaluated(self, evaluation: Evaluation, metric: str, required: float) -> None:
        """Show the plan: replacing the one before on a terminal, as a line elsewhere."""
        from trt_mpq.cli.tables import evaluation_text

        self._plans += 1
        line = f"plan {self._plans}: {evaluation_text(evaluation, metric, required)}"
        if self._bars:
            self._bars.say(line)
        else:
            self._say(line)

    def note(self, text: str) -> None:
        """Show the sentence."""
        self._say(f"note: {text}")

    def show(self, table: Callable[[], RenderableType], json: Callable[[], str]) -> None:
        """Print the one of the two that was asked for."""
        if self._json:
            typer.echo(json(), nl=False, file=self._results)
        elif not self._quiet:
            self._out.print(table(), crop=False)  # commands are one line, however long

    def result(self, value: _T, kind: type[_T], table: Callable[[_T], RenderableType]) -> None:
        """Print `value` as JSON of `kind` or as the table that `table` makes of it."""
        from trt_mpq.artifacts.files import to_json

        self.show(lambda: table(value), lambda: to_json(value, kind))

    def report(self, report: Report | DeviceComparison, folder: Path, details: bool = False) -> None:
        """Print the report of a run or the comparison of several, and where its files are."""
        from trt_mpq.report.comparison import DeviceComparison

        if isinstance(report, DeviceComparison):
            self._comparison(report, folder)
        elif self._json:
            from trt_mpq.report.data import report_to_json

            typer.echo(report_to_json(report), nl=False, file=self._results)
        elif not self._quiet:
            from rich.text import Text

            from trt_mpq.report.terminal import render_terminal
            from trt_mpq.report.wording import IN_ONNX_RUNTIME

            render_terminal(report, self._out, details=details)
            files = f"{folder / 'typed.onnx'} is the network, {folder / 'report.html'} the full report"
            on_device, compiled = report.device and report.device.shipped, report.compilation
            if on_device or (compiled and compiled.engine_sha256):
                files = f"{folder / 'engine' / 'engine.plan'} is the engine, {files}"
            self._out.print("", Text(files), Text(IN_ONNX_RUNTIME), sep="\n", soft_wrap=True)

    def _comparison(self, comparison: DeviceComparison, folder: Path) -> None:
        if self._json:
            from trt_mpq.artifacts.files import to_json
            from trt_mpq.report.comparison import DeviceComparison

            typer.echo(to_json(comparison, DeviceComparison), nl=False, file=self._results)
        elif not self._quiet:
            from rich.text import Text

            from trt_mpq.report.comparison_page import print_comparison

            print_comparison(comparison, self._out)
            one = folder / comparison.devices[0].folder
            files = f"{folder / 'comparison.html'} compares them; {one} and the others are run folders of their own"
            self._out.print("", Text(files), sep="\n", soft_wrap=True)

    def _say(self, line: str) -> None:
        from rich.text import Text

        from trt_mpq.report.wording import printable

        self._end_line()
        self._err.print(Text(printable(line)), soft_wrap=True)


def _untold(done: int, total: int) -> None:
    """Progress that nobody sees."""
