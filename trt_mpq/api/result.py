"""What came of a run: plan, scores, latencies, files, and the report as notebooks show it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from trt_mpq.api.options import python_words
from trt_mpq.errors import RunFolderError
from trt_mpq.report.comparison import DeviceComparison
from trt_mpq.report.data import AccuracyFigures, LatencyFigures, Report, SizeFigures, report_from_json
from trt_mpq.types import PrecisionPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console

_FILES = {
    "typed": "typed.onnx", "weak": "weak.onnx", "reference": "reference.onnx", "plan": "plan.json",
    "engine": "engine/engine.plan", "report": "report.html", "json": "report.json",
}  # fmt: skip
_WIDTH = 100
"""Columns of the report as text."""
_HEIGHT_PX = 720


@dataclass(frozen=True)
class _Page:
    path: Path

    def show(self) -> None:
        """Show the page in a notebook; print the text elsewhere, and where the page is."""
        if _in_notebook():
            from IPython.display import display

            display(self)
        else:
            print(f"{self}\n{self.path} is the full report")

    def _repr_html_(self) -> str:
        """The page in a frame of its own, whose style stays inside."""
        page = escape(self.path.read_text(encoding="utf-8"), quote=True)
        size = f'width="100%" height="{_HEIGHT_PX}" style="border:0"'
        return f'<iframe title="trt-mpq report" srcdoc="{page}" {size}></iframe>'


@dataclass(frozen=True)
class ReportPage(_Page):
    """The report of a run, as a page in a notebook and as text elsewhere.

    Attributes:
        path: The page.
        data: Everything it says, as a value.
    """

    data: Report

    def __str__(self) -> str:
        """The report as `trt-mpq build` prints it, without colours."""
        from trt_mpq.report.terminal import render_terminal

        return _printed(lambda console: render_terminal(self.data, console))


@dataclass(frozen=True)
class _ComparisonPage(_Page):
    """The comparison of the runs for several devices, in the same way; `data` is what it says, as a value."""

    data: DeviceComparison

    def __str__(self) -> str:
        """The comparison as `trt-mpq build` prints it, without colours."""
        from trt_mpq.report.comparison_page import print_comparison

        return _printed(lambda console: print_comparison(self.data, console))


@dataclass(frozen=True)
class Result:
    """The outcome of a run.

    Attributes:
        folder: The run folder; `trt-mpq engine` builds the engine of it on the device.
        data: Everything that the report says, as a value.
    """

    folder: Path
    data: Report

    @property
    def plan(self) -> PrecisionPlan:
        """The chosen plan: group to precision."""
        return PrecisionPlan.of(self.data.plan.assignments)

    @property
    def accuracy(self) -> AccuracyFigures:
        """Scores of FP32 (`fp32`), the plan (`plan`) and uniform plans (`of`), and the one required (`target`)."""
        return self.data.accuracy

    @property
    def latency_ms(self) -> LatencyFigures:
        """Milliseconds of a batch, in the same way; `source` says whether they were measured or modelled."""
        return self.data.latency_ms

    @property
    def size_bytes(self) -> SizeFigures:
        """Bytes of the weights, in the same way."""
        return self.data.size_bytes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, in sentences."""
        return self.data.warnings

    @property
    def files(self) -> Mapping[str, Path]:
        """The files that there are: typed, weak, reference (ONNX), plan, engine, report (HTML), json."""
        paths = {name: self.folder / file for name, file in _FILES.items()}
        return {name: path for name, path in paths.items() if path.is_file()}

    @property
    def report(self) -> ReportPage:
        """The report."""
        return ReportPage(self.folder / _FILES["report"], self.data)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def __str__(self) -> str:
        """A line with the figures."""
        from trt_mpq.report.verdict import lead

        return lead(self.data)


@dataclass(frozen=True)
class DeviceResults:
    """The outcome of a build for several devices: that of each by its name, `results["l4"]`, and their comparison.

    Attributes:
        folder: The folder of the run folders, one for each device.
        data: The devices side by side, as a value.
    """

    folder: Path
    data: DeviceComparison

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, in the order in which they were given."""
        return tuple(one.folder for one in self.data.devices)

    def __getitem__(self, device: str) -> Result:
        """The result of one device; raises KeyError."""
        if device not in self.devices:
            raise KeyError(device)
        return load(self.folder / device)

    def __iter__(self) -> Iterator[str]:
        return iter(self.devices)

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def report(self) -> _ComparisonPage:
        """The comparison."""
        return _ComparisonPage(self.folder / "comparison.html", self.data)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def __str__(self) -> str:
        """A line that says in how far the plans differ."""
        from trt_mpq.report.comparison_page import comparison_lead

        return comparison_lead(self.data)


def load(folder: str | Path) -> Result:
    """The result of a run that was finished, here or elsewhere; neither model nor data is needed.

    Args:
        folder: The run folder.

    Raises:
        RunFolderError: It has no report, or a damaged one.
    """
    path = Path(folder) / _FILES["json"]
    with python_words():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunFolderError(f"{path} cannot be read: run `trt-mpq report {folder}` to write it") from error
        return Result(Path(folder), report_from_json(text))


def _printed(show: Callable[[Console], None]) -> str:
    from rich.console import Console

    text = StringIO()
    show(Console(file=text, width=_WIDTH, highlight=False))
    return text.getvalue()


def _in_notebook() -> bool:
    """Whether a notebook runs this, told without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return bool(shell and getattr(shell, "kernel", None))
