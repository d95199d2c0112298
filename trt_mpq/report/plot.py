"""Plans as marks on two axes, whose labels keep clear of each other at every width of the page."""

from __future__ import annotations

from collections.abc import Mapping

from trt_mpq.report.svg import Scale, add, canvas, markup, percent, tick_labels

_HEIGHT = 350.0
_NOMINAL_WIDTH = 520.0
"""Width in pixels for which labels are kept apart."""
_NARROW_WIDTH = 250.0
"""Width in pixels down to which no label leaves the drawing."""
_Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the nominal width."""
_DIAMOND = "M0-7 7 0 0 7-7 0Z"


class Plot:
    """A drawing of plans.

    Args:
        description: What it shows, for those who do not see it.
        x: The horizontal axis.
        y: The vertical one, upwards.
    """

    def __init__(self, description: str, x: Scale, y: Scale) -> None:
        self._drawing = canvas(_HEIGHT + 44, description)
        self._x, self._y = x, y
        self._taken: list[_Box] = []

    def markup(self) -> str:
        """The drawing as text."""
        return markup(self._drawing)

    def holds(self, y: float) -> bool:
        """Whether `y` lies on the vertical axis."""
        return self._y.holds(y)

    def keep_clear(self, x: float, low: float, high: float, width: float, margin: float) -> None:
        """No label may come upon what reaches from `low` to `high` at `x`, with `width` and `margin` in pixels."""
        left = _NOMINAL_WIDTH * self._x.at(x)
        box = (left - width / 2, self._top(high) - margin, left + width / 2, self._top(low) + margin)
        self._taken.append(box)

    def draw_axes(self, x_title: str, less: str, y_texts: Mapping[float, str]) -> None:
        """The horizontal axis with its title and where `less` lies, and lines across at the values of `y_texts`."""
        for value, text in y_texts.items():
            y = self._top(value)
            add(self._drawing, "line", x1="0", x2="100%", y1=y, y2=y, class_="grid")
            add(self._drawing, "text", text, x=-8, y=y + 4, class_="tick", text_anchor="end")
        add(self._drawing, "line", x1="0", x2="100%", y1=_HEIGHT, y2=_HEIGHT, class_="axis")
        ticks = self._x.ticks(5)
        for tick, text in zip(ticks, tick_labels(ticks), strict=True):
            x = self._left(tick)
            add(self._drawing, "line", x1=x, x2=x, y1=_HEIGHT, y2=_HEIGHT + 5, class_="axis")
            add(self._drawing, "text", text, x=x, y=_HEIGHT + 19, class_="tick", text_anchor="middle")
        add(self._drawing, "text", f"← {less}", x="0", y=_HEIGHT + 38, class_="tick")
        add(self._drawing, "text", x_title, x="100%", y=_HEIGHT + 38, class_="tick", text_anchor="end")

    def draw_below(self, y: float, css: str) -> None:
        """A field from `y` down to the axis."""
        top = self._top(y)
        add(self._drawing, "rect", x="0", width="100%", y=top, height=_HEIGHT - top, class_=css)

    def draw_limit(self, y: float, css: str, text: str, dy: float) -> None:
        """A line across with its name, `dy` pixels lower, at the first free of right end, left end and middle."""
        top, width = self._top(y), _text_width(text)
        add(self._drawing, "line", x1="0", x2="100%", y1=top, y2=top, class_=css)
        places = {"end": 1.0, "start": 0.0, "middle": 0.5}
        boxes = {a: _box(_anchored(_NOMINAL_WIDTH * x, width, a), top + dy - 4, width) for a, x in places.items()}
        anchor = next((a for a, box in boxes.items() if self._is_free(box)), "end")
        self._taken.append(boxes[anchor])
        strong = " strong" if css == "required" else ""
        place = percent(places[anchor])
        add(self._drawing, "text", text, x=place, y=top + dy, class_=f"note{strong}", text_anchor=anchor)

    def draw_line(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """A line from one point to another."""
        (x1, y1), (x2, y2) = begin, end
        left, right = self._left(x1), self._left(x2)
        add(self._drawing, "line", x1=left, y1=self._top(y1), x2=right, y2=self._top(y2), class_="path")

    def draw_error(self, x: float, low: float, high: float, css: str) -> None:
        """An error bar."""
        left = self._left(x)
        add(self._drawing, "line", x1=left, x2=left, y1=self._top(low), y2=self._top(high), class_=css)

    def draw_step(self, x: float, y: float, css: str, tip: str, plan: str) -> None:
        """A plan that the search tried."""
        cx, cy, css = self._left(x), self._top(y), f"step {css}".rstrip()
        add(self._drawing, "circle", cx=cx, cy=cy, r=4, class_=css, data_tip=tip, data_plan=plan)

    def draw_mark(self, x: float, y: float, css: str, text: str, tip: str, plan: str | None) -> None:
        """A plan with its name: the chosen one, whose `css` is "plan", or a baseline."""
        chosen, more = css == "plan", {"data_plan": plan} if plan else {}
        spot = add(self._drawing, "svg", x=self._left(x), y=self._top(y), overflow="visible", data_tip=tip, **more)
        if chosen:
            add(spot, "circle", r=10, class_="halo")
            add(spot, "circle", r=5, class_="chosen")
        else:
            add(spot, "path", d=_DIAMOND, class_=f"baseline {css}")
        dx, dy, anchor = self._label_place(x, y, text)
        add(spot, "text", text, x=dx, y=dy, class_="note strong" if chosen else "note", text_anchor=anchor)

    def _label_place(self, x: float, y: float, text: str) -> tuple[float, float, str]:
        """The first of a few places around a mark where the label meets no other mark or label."""
        top, width = self._top(y), _text_width(text)
        places = [(15.0, 4.0, "start"), (-15.0, 4.0, "end"), (0.0, 25.0, "middle"), (0.0, -16.0, "middle")]
        places += [(13.0, 20.0, "start"), (-13.0, 20.0, "end"), (13.0, -12.0, "start"), (-13.0, -12.0, "end")]
        if not self._y.holds(y):
            places = [(0.0, -14.0, "middle"), (10.0, -14.0, "start"), (-10.0, -14.0, "end"), (0.0, -30.0, "middle")]
        for dx, dy, anchor in places:
            box = _box(_anchored(_NOMINAL_WIDTH * self._x.at(x) + dx, width, anchor), top + dy - 4, width)
            centre = _anchored(_NARROW_WIDTH * self._x.at(x) + dx, width, anchor)
            inside = width / 2 <= centre <= _NARROW_WIDTH - width / 2 and box[1] >= -10 and box[3] <= _HEIGHT
            if inside and self._is_free(box):
                self._taken.append(box)
                return dx, dy, anchor
        return places[0]

    def _left(self, x: float) -> str:
        return percent(self._x.at(x))

    def _top(self, y: float) -> float:
        return _HEIGHT * (1 - self._y.at(y))

    def _is_free(self, box: _Box) -> bool:
        return not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in self._taken
        )


def _text_width(text: str) -> float:
    return 7.2 * len(text)


def _anchored(x: float, width: float, anchor: str) -> float:
    """Centre of a text of `width` anchored at `x`."""
    return x + {"middle": 0.0, "start": width / 2, "end": -width / 2}[anchor]


def _box(x: float, y: float, width: float) -> _Box:
    return x - width / 2, y - 7, x + width / 2, y + 7
