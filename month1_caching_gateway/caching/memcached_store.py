"""Entries in Memcached, which has no scripts: compare and store by `gets` and `cas`.

What differs from RedisStore
    - A put is a loop: look, decide, store only if nobody stored meanwhile; at most `_ATTEMPTS`
      times. A fill that gives up is refused, which costs a miss. A fence that gives up waits
      like one that could not be delivered: it is never lost silently.
    - Lifetimes are whole seconds and end up to a second early, so a fence is given one more.
      Values stand at least `0..1` s; an exact time below a second cannot be had.
    - A lifetime over 30 days would be read as a date; it is sent as one.
    - Keys have at most 250 bytes, no space and no control character; others go by their hash.
    - An item has at most 1 MB; a larger one is told to the hook and not stored.
    - Nothing is announced: no process hears of another's writes (use a short tier in front).
    - Nothing survives a restart. Least recently used items go when memory is full, fences too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from month1_caching_gateway.caching.entries import Entry, Kind, decode, encode, may_replace
from month1_caching_gateway.caching.events import EntryTooLarge, Hook, ignore
from month1_caching_gateway.caching.remote_store import BREAKER, Lifetimes, RemoteStore
from scalelab.clients.memcached import Memcached
from scalelab.clients.memcached_replies import Item, Items, Reply
from scalelab.clock import Clock
from scalelab.errors import CorruptData, InvalidInput, ScalelabError, Unavailable
from scalelab.resilience.circuit_breaker import BreakerPolicy

ENTRY_LIMIT_BYTES = 2**20 - 1024
"""An item is at most 1 MB with its key and header (the server's `-I` default)."""

_LONGEST_KEY = 250
_LONGEST_NAMESPACE = 100
_LONGEST_RELATIVE_S = 30 * 24 * 3600
_ATTEMPTS = 8
_PLAIN = re.compile(rb"[\x21-\x7e]+")
_REFUSALS = frozenset({b"NOT_STORED", b"EXISTS", b"NOT_FOUND"})


class MemcachedStore(RemoteStore):
    """Entries under `namespace:`. The client is the caller's and stays open.

    namespace: at most 100 printable ASCII characters without a space; see RedisStore for the rest.
    """

    def __init__(
        self,
        memcached: Memcached,
        *,
        namespace: str,
        clock: Clock,
        hook: Hook = ignore,
        breaker: BreakerPolicy = BREAKER,
        parallel: int = 32,
        waiting_limit: int = 10_000,
    ) -> None:
        super().__init__(
            clock=clock,
            hook=hook,
            breaker=breaker,
            parallel=parallel,
            waiting_limit=waiting_limit,
            entry_limit_bytes=ENTRY_LIMIT_BYTES,
        )
        if len(namespace) > _LONGEST_NAMESPACE or not _PLAIN.fullmatch(namespace.encode()):
            raise InvalidInput(
                f"{namespace!r} is no namespace for Memcached: 1..{_LONGEST_NAMESPACE} printable "
                "ASCII characters without a space",
                field="namespace",
            )
        self._memcached = memcached
        self._prefix = namespace + ":"
        self._lease_prefix = f"lease:{namespace}:"

    async def _fetch(self, keys: Sequence[str]) -> dict[str, bytes]:
        items = await self._items([name_of(self._prefix, key) for key in keys])
        named = {key: items.get(name_of(self._prefix, key)) for key in keys}
        return {key: item.value for key, item in named.items() if item is not None}

    async def _put(self, entries: Lifetimes, *, announce: bool) -> set[str]:
        stored: set[str] = set()
        left: dict[str, tuple[Entry, int]] = dict(entries)
        for _ in range(_ATTEMPTS):
            if not left:
                return stored
            names = {key: name_of(self._prefix, key) for key in left}
            standing = await self._items(list(names.values()))
            allowed = {
                key: pair
                for key, pair in left.items()
                if may_replace(_entry(standing.get(names[key])), pair[0])
            }
            commands = [
                _store(
                    names[key], encode(entry), standing.get(names[key]), self._exptime(entry, ms)
                )
                for key, (entry, ms) in allowed.items()
            ]
            replies = await self._memcached.call(commands) if commands else []
            outcomes = dict(zip(allowed, replies, strict=True))
            stored |= {key for key, reply in outcomes.items() if self._is_stored(key, reply)}
            left = {key: left[key] for key, reply in outcomes.items() if reply in _REFUSALS}
        if announce and left:
            raise Unavailable(
                f"{len(left)} writes lost {_ATTEMPTS} races in a row", code="cas_exhausted"
            )
        return stored

    async def _take(self, keys: Sequence[str], token: str, ttl_ms: int) -> set[str]:
        seconds = -(-ttl_ms // 1000) + 1
        names = [name_of(self._lease_prefix, key) for key in keys]
        commands = [_store(name, token.encode(), None, seconds) for name in names]
        replies = await self._memcached.call(commands)
        return {key for key, reply in zip(keys, replies, strict=True) if reply == b"STORED"}

    async def _drop(self, keys: Sequence[str], token: str) -> None:
        standing = await self._items([name_of(self._lease_prefix, key) for key in keys])
        ours = {name: item for name, item in standing.items() if item.value == token.encode()}
        # A negative lifetime ends it at once, and only if it is still the one we looked at.
        commands = [_store(name, b"", item, -1) for name, item in ours.items()]
        if commands:
            await self._memcached.call(commands)

    async def _items(self, names: Sequence[bytes]) -> Items:
        command = b"gets " + b" ".join(names) + b"\r\n"
        (reply,) = await self._memcached.call([command], read_only=True)
        if isinstance(reply, bytes):
            raise ScalelabError(
                f"Memcached refused to read: {reply.decode(errors='replace')}",
                code="memcached_error",
            )
        return reply

    def _is_stored(self, key: str, reply: Reply) -> bool:
        if reply == b"STORED":
            return True
        if reply in _REFUSALS:
            return False
        said = reply.decode(errors="replace") if isinstance(reply, bytes) else "items"
        if said.startswith("SERVER_ERROR object too large"):
            self._hook(EntryTooLarge(key, 0))
            return False
        raise ScalelabError(f"Memcached refused to store: {said}", code="memcached_error")

    def _exptime(self, entry: Entry, lifetime_ms: int) -> int:
        """Whole seconds: a value's rounded down (I3), a fence's up and one more (it guards)."""
        if entry.kind is Kind.FENCE:
            seconds = -(-lifetime_ms // 1000) + 1
        else:
            seconds = max(1, lifetime_ms // 1000)
        if seconds > _LONGEST_RELATIVE_S:
            return int(self._clock.now().timestamp()) + seconds
        return seconds


def name_of(prefix: str, key: str) -> bytes:
    """The key's name in Memcached: itself where it may be, else `#` and its hash.

    A key that begins with `#` is hashed too, so no key can pose as another's hash.
    """
    name = (prefix + key).encode()
    if len(name) <= _LONGEST_KEY and _PLAIN.fullmatch(name) and not key.startswith("#"):
        return name
    return f"{prefix}#{hashlib.blake2b(key.encode(), digest_size=24).hexdigest()}".encode()


def _store(name: bytes, value: bytes, standing: Item | None, exptime: int) -> bytes:
    """`add` where nothing stood, else `cas` against what stood."""
    if standing is None:
        head = b"add %b 0 %d %d" % (name, exptime, len(value))
    else:
        head = b"cas %b 0 %d %d %d" % (name, exptime, len(value), standing.cas)
    return head + b"\r\n" + value + b"\r\n"


def _entry(item: Item | None) -> Entry | None:
    """What stands; bytes that are no entry count as nothing and are replaced."""
    try:
        return None if item is None else decode(item.value)
    except CorruptData:
        return None
