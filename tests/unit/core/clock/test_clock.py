"""Clocks: the manual one stands still, the system's are of the right kind."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from scalelab.clock import ManualClock, SystemClock


def test_a_manual_clock_moves_only_when_told() -> None:
    """Both of its clocks move together."""
    clock = ManualClock()
    before = clock.now()
    clock.advance(2.5)
    assert clock.monotonic_s() == 2.5
    assert clock.now() - before == timedelta(seconds=2.5)


def test_stepping_the_wall_leaves_intervals_alone() -> None:
    """What a time daemon does must not change a running time-out."""
    clock = ManualClock()
    clock.step_wall(-3600)
    assert clock.monotonic_s() == 0.0


def test_a_manual_clock_refuses_to_go_back() -> None:
    """A monotonic clock never does."""
    with pytest.raises(ValueError, match="step_wall"):
        ManualClock().advance(-1)


def test_the_system_clock_is_aware_and_monotonic() -> None:
    """UTC instants; two readings never go back."""
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic_s() <= clock.monotonic_s()
