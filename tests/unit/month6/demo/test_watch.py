"""A demo's progress: lines for a file, a moving line for a terminal, nothing on standard output."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from month6_capstone.demo import DemoOptions, Watch
from month6_capstone.demo.watch import server_line, waiting_line
from scalelab.lab.runtime import Progress


def watched(*, terminal: bool) -> str:
    """What is written while a shop starts, sells and closes."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100)
    with Watch(DemoOptions(), console) as watch:
        watch.announce("a new shop")
        watch.hooks.server(Progress("kafka", "starting", 0.0))
        watch.hooks.server(Progress("kafka", "ready", 5.72, "4.1.1"))
        watch.hooks.phase("the [first] order")
        watch.hooks.load(1.0)
        watch.rest()
        watch.hooks.server(Progress("orders", "died", 60.0, "exit code -9"))
    return file.getvalue()


def test_without_a_terminal_there_are_plain_lines_only() -> None:
    """A log file of CI holds no control characters and no empty lines."""
    assert watched(terminal=False).splitlines() == [
        "· a new shop",
        "· kafka ready after 5.7 s (4.1.1)",
        "· the [first] order",
        "· orders died: exit code -9",
    ]


def test_a_terminal_gets_the_same_lines() -> None:
    """Nothing that matters stands in the moving line alone."""
    text = watched(terminal=True)
    assert "· kafka ready after 5.7 s (4.1.1)" in text
    assert "· orders died: exit code -9" in text


@pytest.mark.parametrize("stage", ["preparing", "starting", "stopped"])
def test_stages_that_say_nothing_new_are_silent(stage: str) -> None:
    """Sixteen servers would scroll the screen away."""
    assert server_line(Progress("redis", stage, 0.1)) == ""  # pyright: ignore[reportArgumentType]


def test_a_start_that_was_given_up_does_not_hide_the_cause() -> None:
    """One server fails, the others follow: only the first is news."""
    assert server_line(Progress("redis", "failed", 1.0, "The start of redis was given up.")) == ""
    assert server_line(Progress("kafka", "failed", 1.0, "no space")) == "kafka failed: no space"


def test_who_is_waited_for_fits_a_line() -> None:
    """Some names and a count."""
    assert waiting_line([]) == "preparing tables and topics"
    assert waiting_line(["kafka"]) == "waiting for kafka"
    assert waiting_line(list("abcdef")) == "waiting for a, b, c, d and 2 more"
