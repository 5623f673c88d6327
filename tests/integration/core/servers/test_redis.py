"""Redis: password, crash and return."""

from __future__ import annotations

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Redis


def test_acknowledged_writes_survive_kill_9(own_runtime: Runtime) -> None:
    """With appendfsync always, what was acknowledged before the kill is there after the restart."""
    server = Redis("cart", settings={"appendfsync": "always"})
    own_runtime.start(server)
    for number in range(3):
        with redis.Redis.from_url(server.url) as client:
            client.set(f"k{number}", number)
        own_runtime.kill("cart")
        own_runtime.restart("cart")
    with redis.Redis.from_url(server.url) as client:
        assert client.mget(["k0", "k1", "k2"]) == [b"0", b"1", b"2"]


def test_nobody_enters_without_the_password(redis_server: Redis) -> None:
    """A client that gives no password, or another one, is refused."""
    for password in (None, "guess"):
        with (
            redis.Redis(
                port=redis_server.port, password=password, retry=Retry(NoBackoff(), 0)
            ) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
