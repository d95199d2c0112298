"""Progress bars for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from trt_mpq.report.wording import printable


class Bars(Progress):
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
