"""Flowcharts as inline SVG, drawn at build time from the mermaid source that repositories show: readers load no script.

It knows what our pages use of the language, which must begin with ``flowchart TB``: boxes, ``id["a line<br>another"]``,
and arrows, ``from -->|"text"| to``. Boxes stand in rows, each below all that point to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape

_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_BOX = re.compile(r'(\w+)\["(.+)"\]')
_ARROW = re.compile(r'(\w+) -->(?:\|"(.+?)"\|)? (\w+)')
# In pixels, for a font of 14.
LINE, LETTER, PADDING, GAP, RISE = 20, 8.1, 14, 56, 92


@dataclass
class Box:
    """A box of text, the first line of which is its title; `x` is its middle, `y` its upper edge."""

    lines: list[str]
    row: int = 0
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """What the longest line takes."""
        return max(map(len, self.lines)) * LETTER + 2 * PADDING

    @property
    def height(self) -> float:
        """What all lines take."""
        return len(self.lines) * LINE + 2 * PADDING - 6


@dataclass
class Chart:
    """Boxes by name, and arrows as (from, text, to)."""

    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str, str]] = field(default_factory=list)


def draw_all(page: str) -> str:
    """Return a page's Markdown with its flowcharts drawn.

    Raises
    ------
    ValueError
        If a flowchart holds what this module does not know; the text names the line.
    """
    return _BLOCK.sub(lambda found: f'<figure class="diagram">{svg(read(found[1]))}</figure>', page)


def read(source: str) -> Chart:
    """Read a flowchart."""
    first, *lines = [line.strip() for line in source.splitlines() if line.strip()]
    chart = Chart()
    for line in lines:
        if box := _BOX.fullmatch(line):
            chart.boxes[box[1]] = Box(box[2].split("<br>"))
        elif (arrow := _ARROW.fullmatch(line)) and {arrow[1], arrow[3]} <= chart.boxes.keys():
            chart.arrows.append((arrow[1], arrow[2] or "", arrow[3]))
        else:
            first = line
            break
    if first != "flowchart TB":
        raise ValueError(f"this flowchart cannot be drawn at {first!r}: see the beginning of {__file__}.")
    return chart


def svg(chart: Chart) -> str:
    """Return the flowchart as one line of SVG, in the page's own colours."""
    width, height = _place(chart)
    parts = [
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        'xmlns="http://www.w3.org/2000/svg">'
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L10 5L0 10z"/></marker></defs>'
    ]
    parts += [_arrow(chart, number) for number in range(len(chart.arrows))]
    parts += [_box(box) for box in chart.boxes.values()]
    return "".join([*parts, "</svg>"])


def _place(chart: Chart) -> tuple[float, float]:
    """Give each box its place, and return the size of the whole."""
    for _ in chart.boxes:  # the longest way is no longer than that
        for start, _, end in chart.arrows:
            chart.boxes[end].row = max(chart.boxes[end].row, chart.boxes[start].row + 1)
    rows: dict[int, list[Box]] = {}
    for box in chart.boxes.values():
        rows.setdefault(box.row, []).append(box)
    widths = {row: sum(box.width + GAP for box in boxes) - GAP for row, boxes in rows.items()}
    width, y = max(widths.values()) + 2, 1.0
    for row in sorted(rows):
        x = (width - widths[row]) / 2
        for box in rows[row]:
            box.x, box.y = x + box.width / 2, y
            x += box.width + GAP
        y += max(box.height for box in rows[row]) + RISE
    return width, y - RISE + 1


def _box(box: Box) -> str:
    left = box.x - box.width / 2
    frame = f'<rect x="{left:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="6"/>'
    return frame + _text(box.lines, box.x, box.y + PADDING + 9, "title")


def _text(lines: list[str], x: float, y: float, first: str = "", others: str = "") -> str:
    """Return lines of text, the first one on this height."""
    kinds = [first, *[others] * (len(lines) - 1)]
    return "".join(
        f'<text class="{kind}" x="{x:.0f}" y="{y + LINE * place:.0f}">{escape(line)}</text>'.replace(' class=""', "")
        for place, (kind, line) in enumerate(zip(kinds, lines, strict=True))
    )


def _arrow(chart: Chart, number: int) -> str:
    """Draw an arrow from the lower edge of a box to the upper edge of another, beside the others that meet there."""
    start, text, end = chart.arrows[number]
    above, below = chart.boxes[start], chart.boxes[end]
    x1 = _port(above, [e for s, _, e in chart.arrows if s == start], end, chart)
    x2 = _port(below, [s for s, _, e in chart.arrows if e == end], start, chart)
    y1, y2 = above.y + above.height, below.y
    middle = (y1 + y2) / 2
    path = f'<path class="arrow" d="M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}"/>'
    lines = text.split("<br>") if text else []
    return path + _text(lines, (x1 + x2) / 2, middle - LINE * (len(lines) - 1) / 2 + 5, "said", "said")


def _port(box: Box, others: list[str], other: str, chart: Chart) -> float:
    """Return where on a box's edge the arrow from or to another one begins: in the order of the others' places."""
    order = sorted(others, key=lambda name: chart.boxes[name].x)
    return box.x - box.width / 2 + box.width * (order.index(other) + 1) / (len(order) + 1)
