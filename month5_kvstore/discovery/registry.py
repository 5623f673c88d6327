"""What a registry does, whoever keeps it: Consul, ZooKeeper, or this month's own store.

Guarantees of every registry (one contract suite holds them)
    G1  A lookup names those whose last heartbeat is younger than their time to live, and no others,
        but for a grace that the registry adds (its tick, its log time, its election).
    G2  A heartbeat of a registration that has ended revives nothing: it raises RegistrationLost,
        and the owner has to register anew.
    G3  A watch gives the set at once and then every set that differs from the one given before;
        of several quick changes only the last may be seen.
    G4  A registry that is away raises Unavailable (a lookup, a watch) or OutcomeUnknown (a change);
        it never says "nobody".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from month5_kvstore.discovery.instances import Instance
from scalelab.errors import Conflict


class RegistrationLost(Conflict):
    """It has ended: nobody is sent to this instance any more. Register anew."""

    code = "registration_lost"


class Registration(Protocol):
    """One instance in the registry, until it is withdrawn or its heartbeats stay away."""

    @property
    def instance(self) -> Instance: ...

    async def heartbeat(self) -> None:
        """Its time begins anew. Raises RegistrationLost, Unavailable, OutcomeUnknown."""
        ...

    async def withdraw(self) -> None:
        """Nobody shall be sent here any more. Repeatable; one that has ended is withdrawn."""
        ...


class Registry(Protocol):
    """Instances by service, and settings by key."""

    async def register(self, instance: Instance, *, ttl_s: float) -> Registration:
        """Offer it to everybody, healthy. One of the same id is replaced, with its lost owner."""
        ...

    async def lookup(self, service: str) -> tuple[Instance, ...]:
        """Who is healthy now, sorted."""
        ...

    def watch(self, service: str) -> AsyncGenerator[tuple[Instance, ...], None]:
        """Who is healthy, now and after each change, for ever. Raises Unavailable when away."""
        ...

    async def setting(self, key: str) -> bytes | None:
        """The value of a key of the configuration, or None."""
        ...

    async def put_setting(self, key: str, value: bytes) -> None:
        """Write one key of the configuration."""
        ...

    def watch_setting(self, key: str) -> AsyncGenerator[bytes | None, None]:
        """The value, now and after each change, for ever. Raises Unavailable when away."""
        ...
