"""Shard router: from a user or an order to the one server that has it.

A user hashes to a slot, an order id carries its slot, the shard map names the shard. Nothing is
looked up anywhere else, so a dead shard takes only its own keys with it: they get Unavailable with
`retry_after_s`, at once after the first few, while all others go on.

Guarantees
    G1  A read that brings the token of a write sees that write, or fails. It is never stale.
    G2  A token that is forged, malformed, of another shard or timeline means "read the primary".
        With `maps`, one of another shard has the newest map asked first: the slot may have moved,
        and its old primary still has the rows as they were.
    G3  Writes go to the primary of the key's shard and nowhere else.
    G4  With `maps`, a write is admitted by the shard itself under the version of the map that sent
        it there; refused as stale, it goes where the newest map says, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self
from uuid import UUID

from opentelemetry.trace import Tracer

from month2_databases.replication import verify
from month2_databases.sharding.events import Reason, RouterEvent, RouterHook
from month2_databases.sharding.map_watch import MapWatch
from month2_databases.sharding.sessions import ReadSession, WriteSession
from month2_databases.sharding.shard import PoolSizes, Shard
from month2_databases.sharding.shard_map import ShardMap, ShardSettings, even
from month2_databases.sharding.slot_entry import EntryPolicy, SlotEntry
from scalelab.clients.postgres import Database
from scalelab.clock import Clock
from scalelab.errors import InvalidInput, Unavailable
from scalelab.hashing import slot_for_key
from scalelab.ids import slot_of


class ShardRouter:
    """Routes users and orders; an async context manager that owns all pools.

    token_keys: secrets of 16 bytes or more; the first signs, all verify. shard_map: slots split
    evenly in the order of `shards` by default. Entering does not fail when servers are away.
    maps: the stored map, watched, in place of a fixed one; every shard then needs `GUARD_DDL` and
    its slots opened. It is entered before the router. entry: how long a write waits for its slot.
    """

    def __init__(
        self,
        shards: Sequence[ShardSettings],
        *,
        token_keys: Sequence[bytes],
        clock: Clock,
        tracer: Tracer | None = None,
        pools: PoolSizes | None = None,
        shard_map: ShardMap | None = None,
        maps: MapWatch | None = None,
        entry: EntryPolicy | None = None,
        hooks: Sequence[RouterHook] = (),
    ) -> None:
        if not token_keys or any(len(key) < 16 for key in token_keys):
            raise InvalidInput("token keys have at least 16 bytes", field="token_keys")
        if maps is not None and shard_map is not None:
            raise InvalidInput("a map is fixed or watched, not both", field="maps")
        self._map = shard_map or even([shard.name for shard in shards])
        self._maps = maps
        self._entry = entry or EntryPolicy()
        self._keys = tuple(token_keys)
        self._clock = clock
        self._hooks = tuple(hooks)
        self._shards = {
            shard.name: Shard(shard, pools=pools or PoolSizes(), clock=clock, tracer=tracer)
            for shard in shards
        }
        # A watched map is read when the watch is entered, and may name new shards at any time.
        unknown: set[str] = set() if maps else set(self._map.shards) - self._shards.keys()
        if unknown:
            raise InvalidInput(f"the shard map names {sorted(unknown)}", field="shard_map")
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for shard in self._shards.values():
                await stack.enter_async_context(shard)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    @property
    def shard_map(self) -> ShardMap:
        """The map in use. One with a shard that this router was not told of is used as it is:
        only that shard's keys are Unavailable, code `shard_unknown`."""
        return self._map if self._maps is None else self._maps.current.shard_map

    @property
    def primaries(self) -> Mapping[str, Database]:
        """The primaries by shard, for work that goes over all of them (relays, checks)."""
        return {name: shard.primary for name, shard in self._shards.items()}

    def slot_of_user(self, user_id: str) -> int:
        """The user's slot, which their order ids must carry."""
        return slot_for_key(user_id)

    def shard_of_user(self, user_id: str) -> str:
        """The shard that has everything of this user."""
        return self.shard_map.shard_of(slot_for_key(user_id))

    def shard_of_order(self, order_id: UUID) -> str:
        """The shard that has this order; InvalidInput if the id was not made for routing."""
        return self.shard_map.shard_of(slot_of(order_id))

    def session_for(self, order_id: UUID) -> WriteSession:
        """A transaction where this order lives: `async with session as conn`, then `.token`."""
        return self._write(slot_of(order_id))

    def session_for_user(self, user_id: str) -> WriteSession:
        """A transaction where this user lives: `async with session as conn`, then `.token`."""
        return self._write(slot_for_key(user_id))

    def read_session(
        self,
        *,
        order_id: UUID | None = None,
        user_id: str | None = None,
        token: str | None = None,
    ) -> ReadSession:
        """A connection for reading one order or one user's data, autocommit.

        token: what the client brought, None if it brought none; then any live replica will do.
        An empty one asks for the primary.
        Give exactly one of `order_id` and `user_id`. Unavailable code `shard_unknown` for a shard
        that this router was not told of.
        """
        if (order_id is None) == (user_id is None):
            raise InvalidInput("a read is for an order or for a user", field="order_id")
        slot = slot_of(order_id) if order_id else slot_for_key(user_id or "")
        shard = self._shard_at(self.shard_map, slot)
        wanted = verify(token, self._keys)
        on_primary, newest = None, None
        if token is not None and (wanted is None or wanted.server != shard.name):
            on_primary = Reason.TOKEN_REFUSED if token else Reason.ASKED_FOR
            newest = self._newest_for(slot) if wanted else None
        return ReadSession(shard, wanted, on_primary=on_primary, newest=newest, tell=self._tell)

    def _newest_for(self, slot: int) -> Callable[[], Awaitable[Shard]] | None:
        """What asks the store of the maps where `slot` is, if the map is not a fixed one."""
        maps = self._maps
        if maps is None:
            return None
        known = maps.current.version

        async def ask() -> Shard:
            return self._shard_at((await maps.refresh(beyond=known)).shard_map, slot)

        return ask

    def _write(self, slot: int) -> WriteSession:
        shard = self._shard_at(self.shard_map, slot)
        entry = None if self._maps is None else self._entry_of(slot, self._maps)
        return WriteSession(shard, self._keys[0], self._tell, entry=entry)

    def _entry_of(self, slot: int, maps: MapWatch) -> SlotEntry[Shard]:
        return SlotEntry(
            slot,
            maps,
            policy=self._entry,
            clock=self._clock,
            shard_of=lambda stored: self._shard_at(stored.shard_map, slot),
        )

    def _shard_at(self, shard_map: ShardMap, slot: int) -> Shard:
        name = shard_map.shard_of(slot)
        shard = self._shards.get(name)
        if shard is None:
            raise Unavailable(
                f"map {shard_map.version} puts slot {slot} on {name}, which this process was not "
                f"told how to reach",
                code="shard_unknown",
            )
        return shard

    def _tell(self, event: RouterEvent) -> None:
        for hook in self._hooks:
            hook(event)
