"""Real servers that keep small agreed facts, one of each kind a session, none of them replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from month5_kvstore.stack import Stack, node_name, start_stack
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Consul, Redis, ZooKeeper
from tests.contracts.month5.keepers import Keeper


@pytest.fixture(scope="module")
def store_keeper(request: pytest.FixtureRequest, server_root: Path) -> Iterator[Keeper]:
    """Three nodes of our own store; not a whole session's, for they work while nobody asks."""
    root = server_root / f"{request.module.__name__.rpartition('.')[2]}-keepers"
    with Runtime(root, private=True, is_disposable=True) as runtime:
        stack = start_stack(runtime, restart=False)
        hosts = ",".join(url.removeprefix("http://") for url in stack.urls.values())
        names = tuple(node_name(node) for node in stack.urls)
        keeper = Keeper("store", f"store://{hosts}", runtime, names, lambda: all_led(stack))
        keeper.settled()
        yield keeper


def all_led(stack: Stack) -> None:
    """Wait until every node knows a leader of every group."""
    end_s = time.monotonic() + 60.0
    for url in stack.urls.values():
        while True:
            groups = httpx.get(f"{url}/status", timeout=30.0).json()["groups"]
            if all(group["leader"] for group in groups):
                break
            assert time.monotonic() < end_s, "a group without a leader"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def zookeeper_keeper(runtime: Runtime) -> Keeper:
    """One ZooKeeper."""
    server = ZooKeeper()
    runtime.start(server)
    return Keeper("zookeeper", f"zookeeper://{server.address}", runtime, (server.name,))


@pytest.fixture(scope="session")
def consul_server(runtime: Runtime) -> Consul:
    """One agent, which is the whole cluster."""
    server = Consul()
    runtime.start(server)
    return server


@pytest.fixture(scope="session")
def consul_keeper(runtime: Runtime, consul_server: Consul) -> Keeper:
    """The same as a keeper."""
    server = consul_server
    address = f"consul://127.0.0.1:{server.port}"
    return Keeper("consul", address, runtime, (server.name,), short_s=10.0)


@pytest.fixture(scope="session")
def redis_keeper(runtime: Runtime) -> Keeper:
    """A Redis of its own, since tests break it; it syncs each write, to lose no token."""
    server = Redis("lock-redis", settings={"appendfsync": "always"})
    runtime.start(server)
    return Keeper("redis", server.url, runtime, (server.name,))
