"""The values of a tensor by magnitude, small enough for a cell of a table."""

from __future__ import annotations

from math import log1p

from trt_mpq.report.data import TensorRow
from trt_mpq.report.svg import add, canvas, markup, percent

_HEIGHT = 26.0


def histogram(row: TensorRow) -> str:
    """Bars from 0 to the largest magnitude, high by the logarithm of what they count; a line where a format clips."""
    most = log1p(max(row.bins, default=0)) or 1.0
    drawing = canvas(_HEIGHT, f"Magnitudes of {row.name}")
    for number, count in enumerate(row.bins):
        height = _HEIGHT * log1p(count) / most
        if height >= 0.5:
            x, width = percent(number / len(row.bins)), percent(0.9 / len(row.bins))
            add(drawing, "rect", x=x, width=width, y=_HEIGHT - height, height=height, class_="bin")
    largest = max(abs(row.minimum), abs(row.maximum)) or 1.0
    for precision, amax in row.amax.items():
        x = percent(min(amax / largest, 1.0))
        add(drawing, "line", x1=x, x2=x, y1=-2, y2=_HEIGHT, class_=f"clip {precision.value}")
    return markup(drawing)
