"""A value that is unique over all shards: reserved by the value's shard, claimed by the owner's.

A unique index sees one server. So every value (an e-mail address, a coupon) has a row in the
table `unique_value` on the shard that the *value* hashes to, and that row decides. It and the
owner's row stand on two shards; two steps, in this order, and a claim row that lets anybody finish
what a crash has left half done:

    1  reserve   value's shard   INSERT unless it is there                      (decides)
    2  claim     owner's shard   INSERT into unique_claim, in the owner's own transaction
    3  confirm   value's shard   the reservation is for good (lazily; `recover` does it as well)

A reservation that is not confirmed for long is settled from the owner's shard: `recover` inserts
the claim itself, as void. If the owner's claim is there, the reservation is confirmed; if the void
one went in, the owner's transaction, however late it comes, meets it and fails. There is no
instant at which both sides believe they were first.

Guarantees
    G1  A value has at most one owner, whoever crashes where.
    G2  A value whose owner's transaction did not commit becomes free again once `recover` has run.
    G3  Released values become free; a crash on the way is finished by `recover`.

Void claims stay: they are what stops a late owner. Drop them when no such transaction can live.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from month2_databases.sharding.queries import ShardedDatabase
from scalelab.clock import Clock
from scalelab.errors import Conflict, OutcomeUnknown, Unavailable
from scalelab.ids import uuid7

SCHEMA = """
CREATE TABLE IF NOT EXISTS unique_value (
    kind text NOT NULL,
    value text NOT NULL,
    token uuid NOT NULL,
    owner_key text NOT NULL,
    confirmed boolean NOT NULL DEFAULT false,
    reserved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, value)
);
CREATE TABLE IF NOT EXISTS unique_claim (
    token uuid PRIMARY KEY,
    owner_key text NOT NULL,
    state text NOT NULL CHECK (state IN ('held', 'void', 'released')),
    kind text NOT NULL,
    value text NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""

_CLAIM: Final = (
    "INSERT INTO unique_claim (token, owner_key, state, kind, value)"
    " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A value that is kept for one owner. Store the token beside the owner's row to release it.

    owner_key: the shard key of the owner's row.
    """

    kind: str
    value: str
    token: UUID
    owner_key: str


class UniqueValues:
    """Values of several kinds over one sharded database, whose shards all have SCHEMA."""

    def __init__(self, database: ShardedDatabase, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def reserve(self, kind: str, value: str, *, owner_key: str) -> Reservation:
        """Step 1. Raises Conflict code `value_taken`, also while another reservation is open."""
        token = uuid7(self._clock.now())
        count, _ = await self._database.execute(
            "INSERT INTO unique_value (kind, value, token, owner_key) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (kind, value, token, owner_key),
            key=_place(kind, value),
        )
        if not count:
            raise Conflict(f"this {kind} is taken", code="value_taken")
        return Reservation(kind, value, token, owner_key)

    async def claim(self, conn: AsyncConnection, reservation: Reservation) -> None:
        """Step 2, in the transaction that writes the owner's row on the owner's shard.

        Raises Conflict code `reservation_lost` if a recovery has given the value up; roll back.
        """
        cursor = await conn.execute(_CLAIM, _claim(reservation, "held"))
        if not cursor.rowcount:
            raise Conflict(f"{reservation.kind} waited too long", code="reservation_lost")

    async def confirm(self, reservation: Reservation) -> None:
        """Step 3, after the owner's transaction has committed. Skipped by a crash: no harm."""
        await self._confirm(reservation.kind, reservation.value, reservation.token)

    async def release(self, conn: AsyncConnection, token: UUID) -> None:
        """Give a value back, in the transaction that removes or renames the owner's row.

        Others can have it after the next `recover`.
        """
        await conn.execute(
            "UPDATE unique_claim SET state = 'released' WHERE token = %s AND state = 'held'",
            (token,),
        )

    async def recover(self, *, older_than_s: float = 60.0) -> Mapping[str, int]:
        """Settle old reservations and released claims; counts `confirmed`, `freed`, `released`.

        older_than_s: longer than any owner's transaction should take; too short is safe (G1) but
        makes slow owners fail. Parts on a shard that is away are left for the next call.
        """
        done = {"confirmed": 0, "freed": 0, "released": 0}
        for name, database in self._database.databases.items():
            try:
                async with database.autocommit() as conn:
                    cursor = await conn.execute(
                        "SELECT kind, value, token, owner_key FROM unique_value"
                        " WHERE NOT confirmed AND clock_timestamp() - reserved_at"
                        " >= make_interval(secs => %s)",
                        (older_than_s,),
                    )
                    waiting = [Reservation(*row) for row in await cursor.fetchall()]
                for reservation in waiting:
                    with suppress(Unavailable, OutcomeUnknown):
                        done[await self._settle(reservation)] += 1
                done["released"] += await self._free_released(name)
            except (Unavailable, OutcomeUnknown):
                continue
        return done

    async def _settle(self, reservation: Reservation) -> str:
        """Void the claim unless it is there; it blocks while the owner's transaction is open."""
        key = reservation.owner_key
        await self._database.execute(_CLAIM, _claim(reservation, "void"), key=key)
        rows = await self._database.fetch(
            "SELECT state FROM unique_claim WHERE token = %s", (reservation.token,), key=key
        )
        if rows == [("void",)]:
            await self._free(reservation.kind, reservation.value, reservation.token)
            return "freed"
        await self._confirm(reservation.kind, reservation.value, reservation.token)
        return "confirmed"

    async def _free_released(self, shard: str) -> int:
        async with self._database.databases[shard].autocommit() as conn:
            cursor = await conn.execute(
                "SELECT kind, value, token FROM unique_claim WHERE state = 'released'"
            )
            rows = await cursor.fetchall()
            for kind, value, token in rows:
                await self._free(kind, value, token)
                await conn.execute("DELETE FROM unique_claim WHERE token = %s", (token,))
        return len(rows)

    async def _confirm(self, kind: str, value: str, token: UUID) -> None:
        await self._database.execute(
            "UPDATE unique_value SET confirmed = true"
            " WHERE kind = %s AND value = %s AND token = %s",
            (kind, value, token),
            key=_place(kind, value),
        )

    async def _free(self, kind: str, value: str, token: UUID) -> None:
        await self._database.execute(
            "DELETE FROM unique_value WHERE kind = %s AND value = %s AND token = %s",
            (kind, value, token),
            key=_place(kind, value),
        )


def _claim(reservation: Reservation, state: str) -> tuple[object, ...]:
    return (
        reservation.token,
        reservation.owner_key,
        state,
        reservation.kind,
        reservation.value,
    )


def _place(kind: str, value: str) -> str:
    """The key whose shard decides about the value."""
    return f"{kind}:{value}"
