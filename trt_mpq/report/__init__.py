"""The report of a run: one value (`data`) and three renderings (JSON, terminal, HTML page)."""

from trt_mpq.report.data import (
    AccuracyFigures,
    CalibrationInfo,
    GroupRow,
    LatencyFigures,
    ModelInfo,
    PlanRecord,
    Report,
    SearchRecord,
    SearchStep,
    SizeFigures,
    TensorRow,
    report_from_json,
    report_to_json,
)
from trt_mpq.report.html import render_html
from trt_mpq.report.terminal import render_terminal

__all__ = [
    "AccuracyFigures",
    "CalibrationInfo",
    "GroupRow",
    "LatencyFigures",
    "ModelInfo",
    "PlanRecord",
    "Report",
    "SearchRecord",
    "SearchStep",
    "SizeFigures",
    "TensorRow",
    "render_html",
    "render_terminal",
    "report_from_json",
    "report_to_json",
]
