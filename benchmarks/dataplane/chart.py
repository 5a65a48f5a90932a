"""Lines on two logarithmic axes as SVG; nothing but text, so that a change of figures is a change of lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 400, 80, 210, 40, 50
_COLOURS = ("#1b7f3b", "#b3261e", "#b36b00", "#5f6368", "#3367d6", "#8430ce")


@dataclass(frozen=True, slots=True)
class Axis:
    """From the first to the last power of ten that the values need, over so many pixels."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> Axis:
        """The axis that has room for all values."""
        return cls(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))), start, end)

    def at(self, value: float) -> float:
        """Where a value stands, in pixels."""
        part = (math.log10(value) - self.low) / max(1, self.high - self.low)
        return self.start + part * (self.end - self.start)

    @property
    def ticks(self) -> list[int]:
        """The powers of ten."""
        return [10**power for power in range(self.low, self.high + 1)]


def lines(title: str, across: str, up: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A chart of named lines, each of (x, y)."""
    points = [point for line in series.values() for point in line]
    x = Axis.of([point[0] for point in points], _LEFT, _WIDTH - _RIGHT)
    y = Axis.of([point[1] for point in points], _HEIGHT - _BOTTOM, _TOP)
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, size=15),
        _text((_LEFT + right) / 2, _HEIGHT - 12, across, anchor="middle"),
        f'<g transform="rotate(-90 16 {(bottom + _TOP) / 2})">{_text(16, (bottom + _TOP) / 2, up, anchor="middle")}</g>',
    ]
    for tick in x.ticks:
        parts += [
            _line(x.at(tick), bottom, x.at(tick), _TOP),
            _text(x.at(tick), bottom + 18, f"{tick:,}", anchor="middle"),
        ]
    for tick in y.ticks:
        parts += [
            _line(_LEFT, y.at(tick), right, y.at(tick)),
            _text(_LEFT - 8, y.at(tick) + 4, f"{tick:,}", anchor="end"),
        ]
    labels = _apart([(y.at(line[-1][1]), name) for name, line in series.items()])
    for (name, line), colour in zip(series.items(), _COLOURS, strict=False):
        path = " ".join(f"{x.at(across_):.1f},{y.at(up_):.1f}" for across_, up_ in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="3.5" fill="{colour}"/>' for a, b in line]
        parts.append(_text(right + 8, labels[name] + 4, name, colour=colour))
    return "\n".join([*parts, "</svg>", ""])


def _apart(wanted: list[tuple[float, str]], space: float = 15) -> Mapping[str, float]:
    """Heights of labels, none upon another."""
    found: dict[str, float] = {}
    last = -math.inf
    for height, name in sorted(wanted):
        last = max(height, last + space)
        found[name] = last
    return found


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = "#202124"
) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{text}</text>'
