"""Servers that a test of the caches may break."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Memcached, Redis


@pytest.fixture
def own_redis(own_runtime: Runtime) -> Redis:
    """A Redis of this test alone, with its append-only file: it comes back with what it had."""
    from scalelab.lab.servers import Redis

    # What was acknowledged is on disk: the tests are about old entries that survive.
    server = Redis("cache", settings={"appendfsync": "always"})
    own_runtime.start(server)
    return server


@pytest.fixture
def own_memcached(own_runtime: Runtime) -> Memcached:
    """A Memcached of this test alone."""
    from scalelab.lab.servers import Memcached

    server = Memcached("cache")
    own_runtime.start(server)
    return server
