"""Draw arms as an SVG: two axes with units, a legend, lines or bars. Values in, text out.

Colours are told apart by people who do not see red and green alike (Okabe and Ito, 2008,
"Color universal design"); arms also differ by dash and marker, so that print works.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from scalelab.errors import InvalidInput
from scalelab.lab.course.experiment import Arm, Axis, Plot

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 20, 44, 56
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values of one axis to pixels. low < high; log means that both are > 0."""

    low: float
    high: float
    start_px: float
    end_px: float
    log: bool

    def at(self, value: float) -> float:
        """Pixel of a value; values beyond the axis land beyond it."""
        low, high, here = self.low, self.high, value
        if self.log:
            low, high, here = math.log10(low), math.log10(high), math.log10(max(value, 1e-300))
        return self.start_px + (here - low) / (high - low) * (self.end_px - self.start_px)


def draw(title: str, plot: Plot, arms: Sequence[Arm]) -> str:
    """The whole SVG document. Raises InvalidInput if no arm has a point or a log axis has <= 0."""
    drawn = [arm for arm in arms if arm.points]
    if not drawn:
        raise InvalidInput(f"Nothing to draw for {title!r}: no arm has points.")
    xs = [x for arm in drawn for x, _ in arm.points]
    ys = [y for arm in drawn for _, y in arm.points]
    bottom = _HEIGHT - _BOTTOM
    y_scale = _scale(plot.y, ys, bottom, _TOP, from_zero=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 22, title, size=15),
        *_y_axis(plot.y, y_scale),
    ]
    if plot.kind == "bars":
        parts += _bars(drawn, y_scale)
    else:
        x_scale = _scale(plot.x, xs, _LEFT, _WIDTH - _RIGHT, from_zero=False)
        parts += _x_axis(plot.x, x_scale)
        parts += _lines(drawn, x_scale, y_scale)
        parts += _legend(drawn)
    return "\n".join([*parts, "</svg>", ""])


def ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round values from low to high: 4 to 10 of them, or the powers of ten of a log axis."""
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]
    rough = (high - low) / 6
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + index) * step, 12) for index in range(count)]


def _scale(
    axis: Axis, values: Sequence[float], start_px: float, end_px: float, *, from_zero: bool
) -> Scale:
    low, high = min(values), max(values)
    if axis.log:
        if low <= 0:
            raise InvalidInput(f"The log axis {axis.label!r} has the value {low}.")
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        return Scale(low, high if high > low else low * 10, start_px, end_px, log=True)
    low = min(low, 0.0) if from_zero else low
    span = high - low or abs(high) or 1.0
    return Scale(low, high + span * (0.06 if from_zero else 0.02), start_px, end_px, log=False)


def _y_axis(axis: Axis, scale: Scale) -> list[str]:
    right = _WIDTH - _RIGHT
    parts: list[str] = []
    for tick in ticks(scale.low, scale.high, log=axis.log):
        y = scale.at(tick)
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#dddddd"/>'
        )
        parts.append(_text(_LEFT - 8, y + 4, _number(tick), anchor="end"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text transform="translate(16 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(axis.label)}</text>"
    )
    return parts


def _x_axis(axis: Axis, scale: Scale) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    parts = [
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - _RIGHT}" y2="{bottom}" stroke="#333333"/>'
    ]
    for tick in ticks(scale.low, scale.high, log=axis.log):
        x = scale.at(tick)
        parts.append(
            f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}" stroke="#333333"/>'
        )
        parts.append(_text(x, bottom + 19, _number(tick), anchor="middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, axis.label, anchor="middle"))
    return parts


def _lines(arms: Sequence[Arm], x_scale: Scale, y_scale: Scale) -> list[str]:
    parts: list[str] = []
    for index, arm in enumerate(arms):
        colour = _COLOURS[index % len(_COLOURS)]
        dash = _DASHES[index % len(_DASHES)] if arm.role != "theory" else "2 3"
        pixels = [(x_scale.at(x), y_scale.at(y)) for x, y in sorted(arm.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        if arm.role != "theory":
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in pixels
            ]
    return parts


def _bars(arms: Sequence[Arm], y_scale: Scale) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    slot = (_WIDTH - _LEFT - _RIGHT) / len(arms)
    parts: list[str] = []
    for index, arm in enumerate(arms):
        value = arm.points[0][1]
        x, y = _LEFT + slot * (index + 0.2), y_scale.at(value)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{slot * 0.6:.1f}" height="{bottom - y:.1f}" '
            f'fill="{_COLOURS[index % len(_COLOURS)]}"/>'
        )
        middle = x + slot * 0.3
        parts.append(_text(middle, y - 5, _number(value), anchor="middle"))
        parts.append(_text(middle, bottom + 19, arm.name, anchor="middle"))
    return parts


def _legend(arms: Sequence[Arm]) -> list[str]:
    parts: list[str] = []
    for index, arm in enumerate(arms):
        y = _TOP + 8 + index * 17
        colour = _COLOURS[index % len(_COLOURS)]
        parts.append(
            f'<line x1="{_LEFT + 12}" y1="{y}" x2="{_LEFT + 40}" y2="{y}" stroke="{colour}" '
            f'stroke-width="2" stroke-dasharray="{_DASHES[index % len(_DASHES)]}"/>'
        )
        parts.append(_text(_LEFT + 46, y + 4, arm.name))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )


def _number(value: float) -> str:
    """At most four figures, thousands with a thin gap: `12 500`, `0.25`, `1e+06`."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.4g}"
