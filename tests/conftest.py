"""Fixtures of the whole suite; real servers come from tests/fixtures/servers.py."""

from __future__ import annotations

import pytest

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
