"""Small pieces for charts: SVG elements that cannot be malformed, scales and their ticks.

Charts scale without scaling their text: horizontal positions are percentages of whatever width the page
gives, vertical ones pixels. Elements are built as a tree and serialised, so no text can break out of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement, tostring

from trt_mpq.report.wording import minus, printable


def canvas(height: float, description: str) -> Element:
    """An empty drawing of `height` pixels as wide as the page allows, with a text alternative."""
    return Element("svg", _attributes({"width": "100%", "height": height, "role": "img", "aria-label": description}))


def add(parent: Element, tag: str, text: str = "", /, **attributes: str | float) -> Element:
    """Append an element; a trailing underscore in a keyword is dropped, others become hyphens."""
    child = SubElement(parent, tag, _attributes(attributes))
    child.text = printable(text) or None
    return child


def _attributes(attributes: dict[str, str | float]) -> dict[str, str]:
    return {key.rstrip("_").replace("_", "-"): _text(value) for key, value in attributes.items()}


def _text(value: str | float) -> str:
    return printable(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def percent(fraction: float) -> str:
    """A horizontal position: 0.125 becomes 12.5%."""
    return f"{100 * fraction:.3f}".rstrip("0").rstrip(".") + "%"


def markup(drawing: Element) -> str:
    """The drawing as text, well-formed XML and at the same time HTML."""
    return tostring(drawing, encoding="unicode")


@dataclass(frozen=True)
class Scale:
    """Maps `low`..`high` onto 0..1, linearly or logarithmically, clamping what lies outside."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, low: float, high: float, share: float = 0.06, least: float = 1e-12) -> Scale:
        """A linear scale around `low`..`high` with air on both sides, even when both are the same."""
        air = max((high - low) * share, least)
        return cls(low - air, high + air)

    def at(self, value: float) -> float:
        """Position of `value` in 0..1."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def holds(self, value: float) -> bool:
        """Whether `value` lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self, count: int) -> list[float]:
        """Round values inside the axis.

        On a linear one they are about `count` (1, 2, 2.5 or 5 times a power of ten), on a logarithmic one powers of
        ten, every second when there are many.
        """
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**e for e in range(last, first - 1, -1 if last - first < 4 else -2)][::-1]
        raw = (self.high - self.low) / count
        magnitude = 10.0 ** math.floor(math.log10(raw))
        step = next((m * magnitude for m in (1, 2, 2.5, 5) if m * magnitude >= raw * 0.999), 10 * magnitude)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def tick_labels(ticks: list[float]) -> list[str]:
    """`ticks` with just the decimals their spacing needs."""
    step = min((abs(b - a) for a, b in pairwise(ticks)), default=abs(ticks[0]) if ticks else 1.0)
    decimals = next((d for d in range(12) if abs(round(step, d) - step) < 1e-6 * step), 12) if step else 0
    return [minus(f"{tick:.{decimals}f}") if tick else "0" for tick in ticks]
