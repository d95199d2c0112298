"""The files of a report."""

from __future__ import annotations

from pathlib import Path

from trt_mpq.artifacts.files import write_text
from trt_mpq.report.data import Report, report_to_json
from trt_mpq.report.html import render_html


def write_files(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.html`; raises RunFolderError."""
    write_text(folder / "report.json", report_to_json(report))
    write_text(folder / "report.html", render_html(report))
