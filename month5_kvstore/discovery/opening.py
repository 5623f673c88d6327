"""A registry by its address, so that a service need not know who keeps it.

consul://127.0.0.1:8500
zookeeper://127.0.0.1:2181,127.0.0.1:2182
store://127.0.0.1:8501,127.0.0.1:8502,127.0.0.1:8503
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from month5_kvstore.client import KvClient, LeasedKeys
from month5_kvstore.discovery.consul import ConsulRegistry
from month5_kvstore.discovery.registry import Registry
from month5_kvstore.discovery.store import StoreRegistry
from scalelab.clients.http import HttpClient
from scalelab.clock import Clock
from scalelab.errors import InvalidInput

_Opener = Callable[[str, Clock, Random, AsyncExitStack], Awaitable[Registry]]


@asynccontextmanager
async def open_registry(
    address: str, *, clock: Clock, random: Random
) -> AsyncGenerator[Registry, None]:
    """The registry of that address, whether it answers or not.

    Raises InvalidInput for an address that cannot be read. ZooKeeper needs the package kazoo.
    """
    scheme, _, hosts = address.partition("://")
    opener = _OPENERS.get(scheme)
    if opener is None or not hosts:
        known = ", ".join(f"{one}://" for one in _OPENERS)
        raise InvalidInput(f"{address!r} is no registry; known are {known}", field="registry")
    async with AsyncExitStack() as stack:
        yield await opener(hosts, clock, random, stack)


async def _consul(hosts: str, clock: Clock, random: Random, stack: AsyncExitStack) -> Registry:
    http = await stack.enter_async_context(HttpClient(f"http://{hosts}", timeout_s=5.0))
    return ConsulRegistry(http, clock=clock, random_bits=random.getrandbits)


async def _zookeeper(hosts: str, clock: Clock, random: Random, stack: AsyncExitStack) -> Registry:
    # Here, for the package is not everywhere.
    from month5_kvstore.discovery.zookeeper import ZooKeeperRegistry

    return await stack.enter_async_context(ZooKeeperRegistry(hosts))


async def _store(hosts: str, clock: Clock, random: Random, stack: AsyncExitStack) -> Registry:
    urls = {node: f"http://{host}" for node, host in enumerate(hosts.split(","), start=1)}
    client = await stack.enter_async_context(KvClient(urls, clock=clock, random=random))
    return StoreRegistry(client, LeasedKeys(client, urls))


_OPENERS: dict[str, _Opener] = {"consul": _consul, "zookeeper": _zookeeper, "store": _store}
