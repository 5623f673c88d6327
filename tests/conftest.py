"""Fixtures of the whole suite; real servers come from tests/fixtures/servers.py."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine an example takes as long as it takes: hypothesis's own clocks judge nothing.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

pytest_plugins = [
    "tests.fixtures.tiers",
    "tests.fixtures.servers",
    "tests.fixtures.shop",
    "tests.fixtures.beds",
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The services run on asyncio, so the tests do."""
    return "asyncio"
