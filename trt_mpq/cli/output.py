"""The one output sink: results on standard output, everything about their making on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from trt_mpq.report.wording import duration_text, printable

if TYPE_CHECKING:
    from trt_mpq.report.data import Report
    from trt_mpq.types import Evaluation, PrecisionPlan

T = TypeVar("T")


class Output:
    """Shows a run to a person or a script; an `Observer`.

    On a terminal a stage is a bar that vanishes when the stage ends, elsewhere two plain lines.

    Args:
        quiet: Show neither progress nor tables.
        json: Print results as JSON.
    """

    def __init__(self, *, quiet: bool = False, json: bool = False) -> None:
        self._quiet = quiet
        self._json = json
        self._out = Console(highlight=False)
        self._err = Console(stderr=True, highlight=False, quiet=quiet)
        self._bars = _Bars(self._err) if self._err.is_terminal and not quiet else None
        self._plans = 0

    @contextmanager
    def stage(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Show the stage while it works and its duration when it is done."""
        started = time.monotonic()
        if self._bars:
            with self._bars.bar(title) as progress:
                yield progress
        else:
            self._say(f"{title} ...")
            yield lambda done, total: None
        self._say(f"{title}: {duration_text(time.monotonic() - started)}")

    def evaluated(self, evaluation: Evaluation) -> None:
        """Show the plan: replacing the one before on a terminal, as a line elsewhere."""
        self._plans += 1
        line = f"plan {self._plans}: {evaluation_text(evaluation)}"
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
            typer.echo(json(), nl=False)
        elif not self._quiet:
            self._out.print(table())

    def result(self, value: T, kind: type[T], table: Callable[[T], RenderableType]) -> None:
        """Print `value` as JSON of `kind` or as the table that `table` makes of it."""
        from trt_mpq.artifacts.files import to_json

        self.show(lambda: table(value), lambda: to_json(value, kind))

    def report(self, report: Report, folder: Path, details: bool = False) -> None:
        """Print the report, and where its files are."""
        if self._json:
            from trt_mpq.report.data import report_to_json

            typer.echo(report_to_json(report), nl=False)
        elif not self._quiet:
            from trt_mpq.report.terminal import render_terminal

            render_terminal(report, self._out, details=details)
            files = f"{folder / 'typed.onnx'} is the network, {folder / 'report.html'} the full report"
            if report.device and report.device.shipped:
                files = f"{folder / 'engine' / 'engine.plan'} is the engine, {files}"
            self._out.print("", Text(files), sep="\n", soft_wrap=True)

    def _say(self, line: str) -> None:
        self._err.print(Text(printable(line)), soft_wrap=True)


class _Bars(Progress):
    """Progress bars of the stages under way, above a caption."""

    def __init__(self, console: Console) -> None:
        self._caption = ""
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    @contextmanager
    def bar(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A bar while the block runs."""
        task = self.add_task(printable(title), total=None)
        self.start()
        try:
            yield lambda done, total: self.update(task, completed=done, total=total)
        finally:
            self.remove_task(task)
            self._caption = ""
            if not self.tasks:
                self.stop()

    def say(self, caption: str) -> None:
        """Replace the line below the bars."""
        self._caption = caption
        self.refresh()

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars, then the caption."""
        yield from super().get_renderables()
        if self._caption:
            yield Text(self._caption, no_wrap=True, overflow="ellipsis")


def counts_text(plan: PrecisionPlan) -> str:
    """How many groups run in what, narrowest first: 14 int8, 6 fp16."""
    return ", ".join(f"{count} {precision}" for precision, count in reversed(plan.counts().items()))


def evaluation_text(evaluation: Evaluation) -> str:
    """One line about an evaluated plan: 14 int8, 6 fp16 → 0.9142 ✓ 0.031 ms."""
    verdict = "✓" if evaluation.feasible else "✗"
    return f"{counts_text(evaluation.plan)} → {judged_text(evaluation)} {verdict} {evaluation.latency_ms:.3g} ms"


def judged_text(evaluation: Evaluation, error: str = "") -> str:
    """The score of a plan, of how few samples it is, and that of its file if this is what misses the target.

    `error` follows the score: its standard error in words, if that is to be told.
    """
    score = f"{evaluation.score.value:.5g}{error}"
    if not evaluation.complete:
        score = f"~{score} (after {evaluation.score.samples:,} samples)"
    if evaluation.delivered and not evaluation.feasible:
        score = f"{score}, typed.onnx {evaluation.delivered.value:.5g}"
    return score
