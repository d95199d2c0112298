"""The files of a report."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.artifacts.files import to_json, write_text
from trt_mpq.report.comparison import DeviceComparison
from trt_mpq.report.comparison_page import render_comparison
from trt_mpq.report.data import Report, report_to_json
from trt_mpq.report.html import render_html


def write_files(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.html`; raises RunFolderError."""
    write_text(folder / "report.json", report_to_json(report))
    write_text(folder / "report.html", render_html(report))


def write_comparison(comparison: DeviceComparison, folder: Path) -> None:
    """Write `comparison.json` and `comparison.html`; raises RunFolderError."""
    write_text(folder / "comparison.json", to_json(comparison, DeviceComparison))
    write_text(folder / "comparison.html", render_comparison(comparison))
