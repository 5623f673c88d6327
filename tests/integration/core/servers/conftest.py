"""Runtimes of their own for tests that break servers."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scalelab.lab.runtime import Runtime


@pytest.fixture
def own_runtime(server_root: Path) -> Iterator[Runtime]:
    """A private runtime that ends with the test."""
    root = server_root / uuid.uuid4().hex[:8]
    with Runtime(root, private=True) as running:
        yield running
    shutil.rmtree(root)


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
