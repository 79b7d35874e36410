"""Small plots as SVG, written by hand: the same figures give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 16, 34, 46
# Told apart also by those who do not see all colours (Okabe and Ito), and by their dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 2")


@dataclass(frozen=True)
class Axis:
    """From `least` to `most`; `ticks` as (value, text)."""

    title: str
    least: float
    most: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def part(self, value: float) -> float:
        """0 at `least`, 1 at `most`."""
        of: Callable[[float], float] = math.log10 if self.log else float
        value = min(max(value, self.least), self.most)
        return (of(value) - of(self.least)) / (of(self.most) - of(self.least))


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = False  # the value holds until the next point


def number(value: float) -> str:
    """1200 -> "1.2 k"."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def linear(title: str, most: float, parts: int = 5) -> Axis:
    """From 0 to a round number above `most`."""
    step = 10 ** math.floor(math.log10(most / parts)) if most > 0 else 1.0
    step = next(step * k for k in (1, 2, 5, 10) if step * k * parts >= most)
    ticks = [(i * step, number(i * step)) for i in range(parts + 1)]
    return Axis(title, 0.0, parts * step, ticks)


def powers(title: str, least: float, most: float) -> Axis:
    """Logarithmic, between powers of ten around `least` and `most`."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return Axis(
        title, 10.0**low, 10.0**high, [(10.0**i, number(10.0**i)) for i in range(low, high + 1)], True
    )


def lines(title: str, x: Axis, y: Axis, drawn: Sequence[Line]) -> str:
    """An SVG document."""
    parts = _frame(title, x, y)
    for i, line in enumerate(drawn):
        style = f'fill="none" stroke="{_COLOURS[i]}" stroke-width="2" stroke-dasharray="{_DASHES[i]}"'
        path, last = [], ""
        for a, b in line.points:
            px, py = f"{_x(x, a):.1f}", f"{_y(y, b):.1f}"
            path.append((f"H{px}V{py}" if line.steps else f"L{px} {py}") if last else f"M{px} {py}")
            last = py
        parts.append(f'<path d="{"".join(path)}" {style}/>')
        top = _TOP + 12 + 16 * i
        parts.append(f'<path d="M{_LEFT + 10} {top}h26" {style}/>')
        parts.append(f'<text x="{_LEFT + 42}" y="{top + 4}">{escape(line.name)}</text>')
    return _document(parts)


def bars(title: str, x: Axis, y: Axis, heights: Sequence[tuple[float, float, float]]) -> str:
    """(from, to, height) of each bar; an SVG document."""
    parts = _frame(title, x, y)
    for start, end, height in heights:
        left, right, top = _x(x, start), _x(x, end), _y(y, height)
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(0.5, right - left - 1):.1f}" '
            f'height="{_HEIGHT - _BOTTOM - top:.1f}" fill="{_COLOURS[0]}"/>'
        )
    return _document(parts)


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.part(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - axis.part(value) * (_HEIGHT - _TOP - _BOTTOM)


def _frame(title: str, x: Axis, y: Axis) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(title)}</text>']
    for value, text in y.ticks:
        at = _y(y, value)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for value, text in x.ticks:
        at = _x(x, value)
        parts.append(f'<path d="M{at:.1f} {bottom}v5" stroke="#444"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#444"/>')
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x.title)}</text>')
    centre = (_TOP + bottom) / 2
    turned = f'transform="rotate(-90 14 {centre})"'
    parts.append(f'<text x="14" y="{centre}" text-anchor="middle" {turned}>{escape(y.title)}</text>')
    return parts


def _document(parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="#222">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
