"""A lock service by its address.

redis://:password@127.0.0.1:6379/0
zookeeper://127.0.0.1:2181
store://127.0.0.1:8501,127.0.0.1:8502,127.0.0.1:8503
consul://127.0.0.1:8500
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from month5_kvstore.client import KvClient, LeasedKeys
from month5_kvstore.locks.consul_locks import ConsulLocks
from month5_kvstore.locks.locks import Locks
from month5_kvstore.locks.redis_locks import RedisLocks
from month5_kvstore.locks.store_locks import StoreLocks
from scalelab.clients.http import HttpClient
from scalelab.clients.redis import connect
from scalelab.clock import Clock
from scalelab.errors import InvalidInput

_Opener = Callable[[str, Clock, Random, AsyncExitStack], Awaitable[Locks]]
_CALL_S = 2.0


@asynccontextmanager
async def open_locks(address: str, *, clock: Clock, random: Random) -> AsyncGenerator[Locks, None]:
    """The lock service of that address, whether it answers or not.

    random: grips; seed it so that no two processes draw the same. Raises InvalidInput for an
    address that cannot be read. ZooKeeper needs the package kazoo.
    """
    scheme, _, hosts = address.partition("://")
    opener = _OPENERS.get(scheme)
    if opener is None or not hosts:
        known = ", ".join(f"{one}://" for one in _OPENERS)
        raise InvalidInput(f"{scheme}:// keeps no locks; known are {known}", field="locks")
    async with AsyncExitStack() as stack:
        yield await opener(hosts, clock, random, stack)


async def _redis(hosts: str, clock: Clock, random: Random, stack: AsyncExitStack) -> Locks:
    client = connect(f"redis://{hosts}", timeout_s=_CALL_S, connect_timeout_s=_CALL_S)
    stack.push_async_callback(client.aclose)
    return RedisLocks(client, random_bits=random.getrandbits)


async def _zookeeper(hosts: str, clock: Clock, random: Random, stack: AsyncExitStack) -> Locks:
    # Here, for the package is not everywhere.
    from month5_kvstore.locks.zookeeper_locks import ZooKeeperLocks

    return ZooKeeperLocks(hosts)


async def _store(hosts: str, clock: Clock, random: Random, stack: AsyncExitStack) -> Locks:
    urls = {node: f"http://{host}" for node, host in enumerate(hosts.split(","), start=1)}
    client = await stack.enter_async_context(KvClient(urls, clock=clock, random=random))
    return StoreLocks(LeasedKeys(client, urls), random_bits=random.getrandbits)


async def _consul(hosts: str, clock: Clock, random: Random, stack: AsyncExitStack) -> Locks:
    http = await stack.enter_async_context(HttpClient(f"http://{hosts}", timeout_s=5.0))
    return ConsulLocks(http)


_OPENERS: dict[str, _Opener] = {
    "redis": _redis,
    "zookeeper": _zookeeper,
    "store": _store,
    "consul": _consul,
}
