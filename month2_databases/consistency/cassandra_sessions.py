"""Sessions on the ring: versions are timestamps, values carry their writer's token.

A read asks one replica (the node it goes through). What the session's token does not accept is
asked again of the next node, and at last of a quorum, which meets every acknowledged quorum write.
So the usual read costs one replica, and only a reader that would be shown the past pays more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from month2_databases.consistency.cassandra_client import Ring, Row
from month2_databases.consistency.quorum import Level
from month2_databases.consistency.read_after_write import NotYetVisible
from month2_databases.consistency.sessions import (
    Guarantee,
    Token,
    after_read,
    after_write,
    next_version,
)
from scalelab.errors import InvalidInput, OutcomeUnknown, Unavailable

COLUMNS = "key text PRIMARY KEY, value text, version bigint, floor frozen<map<text, bigint>>"
"""Of the table that sessions work on: `CREATE TABLE name (COLUMNS)`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read was shown. version 0 and value None: nothing. asked: requests it took."""

    value: str | None
    version: int
    carried: Token
    asked: int = 1


class RingSession:
    """One user's way to a table of registers. Not for two tasks at once: a session is an order.

    now_us: the user's clock, in microseconds. read, write: levels of the first try.
    """

    def __init__(
        self,
        ring: Ring,
        table: str,
        *,
        guarantee: Guarantee,
        now_us: Callable[[], int],
        read: Level = Level.ONE,
        write: Level = Level.QUORUM,
    ) -> None:
        self._ring = ring
        self._guarantee = guarantee
        self._now_us = now_us
        self._read_level = read
        self._write_level = write
        if not table.isidentifier():
            raise InvalidInput(f"{table!r} is not the name of a table", field="table")
        self._select = f"SELECT value, version, floor FROM {table} WHERE key = ?"  # noqa: S608
        self._update = (
            f"UPDATE {table} USING TIMESTAMP ?"  # noqa: S608
            " SET value = ?, version = ?, floor = ? WHERE key = ?"
        )
        self.token = Token()

    def hear(self, token: Token) -> None:
        """Take over what somebody else knows, who sent it along with a message."""
        if Guarantee.CAUSAL in self._guarantee:
            self.token = self.token.merged(token)

    async def write(self, key: str, value: str, *, via: str | None = None) -> int:
        """Write and return the version. Raises as Ring.write; an unknown outcome is remembered."""
        version = next_version(self.token, key, now_us=self._now_us())
        parameters = (version, value, version, dict(self.token.floor), key)
        try:
            await self._ring.write(self._update, parameters, level=self._write_level, via=via)
        except OutcomeUnknown:
            self.token = after_write(self.token, key, version, self._guarantee)
            raise
        self.token = after_write(self.token, key, version, self._guarantee)
        return version

    async def read(self, key: str, *, via: str | None = None) -> Seen:
        """The register as this session may be shown it. Raises Unavailable or NotYetVisible."""
        tries = [(self._read_level, node) for node in self._route(via)]
        asked = 0
        for level, node in [*tries, (Level.QUORUM, None)]:
            asked += 1
            try:
                rows = await self._ring.read(self._select, (key,), level=level, via=node)
            except Unavailable:
                if level is Level.QUORUM:
                    raise
                continue
            seen = _seen(rows, asked)
            if self.token.accepts(key, seen.version):
                self.token = after_read(
                    self.token, key, seen.version, seen.carried, self._guarantee
                )
                return seen
        raise NotYetVisible(f"no replica shows {key} as new as this session must be shown it")

    def _route(self, via: str | None) -> list[str | None]:
        """The node asked for, then the others after it."""
        if via is None:
            return [None]
        nodes = list(self._ring.addresses)
        at = nodes.index(via)
        return [*nodes[at:], *nodes[:at]]


def _seen(rows: Sequence[Row], asked: int) -> Seen:
    if not rows:
        return Seen(None, 0, Token(), asked)
    row = rows[0]
    return Seen(row["value"], row["version"], Token(dict(row["floor"] or {})), asked)
