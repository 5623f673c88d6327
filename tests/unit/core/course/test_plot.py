"""Plots are well-formed SVG that says what its axes are."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import InvalidInput
from scalelab.lab.course.experiment import Arm, Axis, Plot
from scalelab.lab.course.plot import draw, ticks

LINES = Plot(Axis("offered load (requests/s)"), Axis("p99 (ms)"))
numbers = st.floats(min_value=-1e7, max_value=1e7).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_any_points_make_a_picture(points: list[tuple[float, float]]) -> None:
    """Well-formed XML with a title, both axes' labels, and a marker a point inside the frame."""
    svg = ET.fromstring(
        draw("Which is <faster>?", LINES, [Arm("a & b", "control", {}, tuple(points))])
    )
    texts = [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Which is <faster>?", "offered load (requests/s)", "p99 (ms)", "a & b"} <= set(texts)
    circles = list(svg.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == len(points)
    assert all(-0.2 <= float(c.attrib["cx"]) <= 720.2 for c in circles)
    assert all(-0.2 <= float(c.attrib["cy"]) <= 420.2 for c in circles)


def test_bars_name_their_arms_and_values() -> None:
    """A bar an arm, its height in proportion, its value above it."""
    arms = [Arm("without", "control", {}, ((0, 200),)), Arm("with", "treatment", {}, ((0, 50),))]
    svg = ET.fromstring(draw("?", Plot(Axis(""), Axis("calls"), "bars"), arms))
    bars = [n for n in svg.iter("{http://www.w3.org/2000/svg}rect") if "x" in n.attrib]
    assert float(bars[0].attrib["height"]) == pytest.approx(
        4 * float(bars[1].attrib["height"]), 0.01
    )
    texts = [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"without", "with", "200", "50"} <= set(texts)


def test_a_theory_line_has_no_markers() -> None:
    """What was computed does not look measured."""
    arm = Arm("Amdahl", "theory", {}, ((1, 1), (2, 1.8)))
    assert "<circle" not in draw("?", LINES, [arm])


def test_a_log_axis_refuses_zero() -> None:
    """log(0) is no place on an axis; the message names the axis."""
    plot = Plot(Axis("clients", log=True), Axis("op/s"))
    with pytest.raises(InvalidInput, match="clients"):
        draw("?", plot, [Arm("a", "control", {}, ((0, 1), (1, 2)))])


def test_nothing_to_draw_is_an_error() -> None:
    """An empty plot would look like a result."""
    with pytest.raises(InvalidInput):
        draw("?", LINES, [Arm("a", "control", {})])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    """2 to 10 evenly spaced values between the ends."""
    found = ticks(low, low + span, log=False)
    assert 2 <= len(found) <= 10
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in found) or span < 1e-9


def test_ticks_of_a_log_axis_are_powers_of_ten() -> None:
    """From 1 to 1000: four ticks."""
    assert ticks(1, 1000, log=True) == [1, 10, 100, 1000]
