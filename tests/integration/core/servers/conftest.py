"""Runtimes of their own for tests that break servers."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def poll(claim: Callable[[], bool], *, what: str, within_s: float = 30.0) -> None:
    """Ask until the claim holds; fail with `what` after a deadline."""
    deadline_s = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {within_s} s: {what}")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """`until(claim, what="...")`: polling with a deadline."""
    return poll
