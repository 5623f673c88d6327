"""Real servers that keep small agreed facts, one of each kind a session, none of them replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from month5_kvstore.stack import node_name, start_stack
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Consul, ServerMissing, ZooKeeper
from tests.contracts.month5.keepers import Keeper


@pytest.fixture(scope="session")
def store_keeper(server_root: Path) -> Iterator[Keeper]:
    """Three nodes of our own store."""
    with Runtime(server_root / "keepers", private=True, is_disposable=True) as runtime:
        stack = start_stack(runtime, restart=False)
        hosts = ",".join(url.removeprefix("http://") for url in stack.urls.values())
        names = tuple(node_name(node) for node in stack.urls)
        yield Keeper("store", f"store://{hosts}", runtime, names)


@pytest.fixture(scope="session")
def zookeeper_keeper(runtime: Runtime) -> Keeper:
    """One ZooKeeper."""
    server = ZooKeeper()
    runtime.start(server)
    return Keeper("zookeeper", f"zookeeper://{server.address}", runtime, (server.name,))


@pytest.fixture(scope="session")
def consul_server(runtime: Runtime) -> Consul:
    """One Consul, built once a machine."""
    server = Consul()
    try:
        runtime.start(server)
    except ServerMissing as missing:
        pytest.skip(f"not run: {missing}")
    return server


@pytest.fixture(scope="session")
def consul_keeper(runtime: Runtime, consul_server: Consul) -> Keeper:
    """The same."""
    address = f"consul://127.0.0.1:{consul_server.port}"
    return Keeper("consul", address, runtime, (consul_server.name,))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first to a server that is built from source waits for the build."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "consul_server" in names or "consul" in parameters.values():
            item.add_marker(pytest.mark.timeout(1800))
