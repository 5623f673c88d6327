"""Fixtures of the whole suite; real servers come from tests/fixtures/servers.py."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine an example takes as long as it takes: hypothesis's own clocks judge nothing.
# In CI the examples follow from the test's source, so that a red run is red again; new ones are
# looked for everywhere else.
settings.register_profile(
    "house",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("house")

# A shell that starts this run in the background lets it ignore SIGINT, and what ignores it hands
# that on: the lab's commands would then be deaf to the Ctrl-C that tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.fixtures.tiers",
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.ring",
    "tests.fixtures.shop",
    "tests.fixtures.beds",
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The services run on asyncio, so the tests do."""
    return "asyncio"
