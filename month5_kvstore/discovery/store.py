"""Our own store as a registry: an instance is a key under a lease, a watch is the store's own.

The lease runs on the store's log time, which stands still while no node leads: an election makes a
registration last longer, never shorter. All keys of one service share a tag, `{service/NAME}/ID`,
and so one group; what a watch gives is one order of changes, whichever node is asked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from month5_kvstore.client import KvClient, LeasedKeys
from month5_kvstore.discovery.instances import Instance, check_label, check_ttl, decode, encode
from month5_kvstore.discovery.registry import RegistrationLost
from scalelab.errors import NotFound, Unavailable

_CALL_S = 5.0


class StoreRegistration:
    """One key under one lease. Made by `StoreRegistry.register`."""

    def __init__(self, keys: LeasedKeys, instance: Instance, lease: int) -> None:
        self._keys = keys
        self._instance = instance
        self._lease = lease

    @property
    def instance(self) -> Instance:
        """Who is registered."""
        return self._instance

    async def heartbeat(self) -> None:
        """Keep the lease alive."""
        try:
            await self._keys.keep_alive(_key_of(self._instance), self._lease, deadline_s=_CALL_S)
        except NotFound as error:
            raise RegistrationLost(f"the lease of {self._instance.id} has ended") from error

    async def withdraw(self) -> None:
        """End the lease, and the key with it if it still hangs there."""
        await self._keys.revoke(_key_of(self._instance), self._lease, deadline_s=_CALL_S)


class StoreRegistry:
    """client, keys: of the same nodes; they stay the caller's."""

    def __init__(self, client: KvClient, keys: LeasedKeys) -> None:
        self._client = client
        self._keys = keys

    async def register(self, instance: Instance, *, ttl_s: float) -> StoreRegistration:
        """A lease and a key under it. A key of the same id moves to this lease."""
        check_ttl(ttl_s)
        key = _key_of(instance)
        lease = await self._keys.grant(key, ttl_s, deadline_s=_CALL_S)
        try:
            await self._keys.put(key, encode(instance), lease, deadline_s=_CALL_S)
        except NotFound as error:
            raise Unavailable("the lease ended before it was used", code="store_slow") from error
        return StoreRegistration(self._keys, instance, lease)

    async def lookup(self, service: str) -> tuple[Instance, ...]:
        """Confirmed by a majority."""
        _, found = await self._keys.find(_prefix_of(service), deadline_s=_CALL_S)
        return tuple(sorted(decode(one.value) for one in found))

    async def watch(self, service: str) -> AsyncGenerator[tuple[Instance, ...], None]:
        """The set, then its changes from the next revision on."""
        prefix = _prefix_of(service)
        revision, found = await self._keys.find(prefix, deadline_s=_CALL_S)
        held = {one.key: decode(one.value) for one in found}
        given = tuple(sorted(held.values()))
        yield given
        async with aclosing(self._keys.watch(prefix, revision + 1)) as changes:
            async for change in changes:
                if change.kind == "put":
                    held[change.item.key] = decode(change.item.value)
                else:
                    held.pop(change.item.key, None)
                now = tuple(sorted(held.values()))
                if now != given:
                    given = now
                    yield now

    async def setting(self, key: str) -> bytes | None:
        """Confirmed by a majority."""
        found = await self._client.get(_setting_of(key), deadline_s=_CALL_S)
        return None if found is None else found.value

    async def put_setting(self, key: str, value: bytes) -> None:
        """Written to a majority."""
        await self._client.put(_setting_of(key), value, deadline_s=_CALL_S)

    async def watch_setting(self, key: str) -> AsyncGenerator[bytes | None, None]:
        """The value, then its changes from the next revision on."""
        wanted = _setting_of(key)
        revision, found = await self._keys.find(wanted, deadline_s=_CALL_S)
        yield next((one.value for one in found if one.key == wanted), None)
        async with aclosing(self._keys.watch(wanted, revision + 1)) as changes:
            async for change in changes:
                if change.item.key == wanted:
                    yield change.item.value if change.kind == "put" else None


def _prefix_of(service: str) -> bytes:
    check_label(service, "service")
    return b"{service/%s}/" % service.encode()


def _key_of(instance: Instance) -> bytes:
    return _prefix_of(instance.service) + instance.id.encode()


def _setting_of(key: str) -> bytes:
    check_label(key, "key")
    return b"{setting/%s}" % key.encode()
