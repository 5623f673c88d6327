"""Holds as callers ask for them: open one, let one go, look at stock, set stock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from month6_capstone.inventory import postgres as store
from month6_capstone.inventory.stock import (
    Hold,
    HoldState,
    Level,
    Line,
    Move,
    let_go,
    reopen,
    shortages,
)
from scalelab.clients.postgres import Database
from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.clock import Clock
from scalelab.errors import Conflict, NotFound

_TRIES = 3
"""How often a hold that appears between looking and writing is looked at again."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open hold. is_new: this call took the stock. expires_at: None once reserved."""

    hold_id: UUID
    expires_at: datetime | None
    is_new: bool


async def open_hold(
    database: Database,
    clock: Clock,
    *,
    hold_id: UUID,
    user_id: str,
    lines: Sequence[Line],
    ttl_s: float,
) -> Opened:
    """Hold all `lines` for `ttl_s` seconds, or none of them. Idempotent by `hold_id`.

    A repeat gets the same hold while it stands; one that expired unclaimed is taken again if the
    stock allows. Raises NotFound `unknown_product`; Conflict `out_of_stock`, `hold_closed` (it
    was released); IdempotencyMismatch (same id, other lines).
    """
    now = clock.now()
    expires_at = now + timedelta(seconds=ttl_s)
    async with database.autocommit() as conn:
        taken = await store.take(conn, hold_id, user_id, lines, now=now, expires_at=expires_at)
    if taken.made:
        return Opened(hold_id, expires_at, is_new=True)
    async with database.transaction() as conn:
        existing = await store.lock_hold(conn, hold_id)
        if existing is None:
            raise _refusal(taken)
        if not reopen(existing, lines):
            return Opened(hold_id, existing.expires_at, is_new=False)
        levels = await store.lock_levels(conn, [line.product_id for line in existing.lines])
        short = shortages(levels, existing.lines)
        if short:
            raise _refusal(store.Taken(made=False, unknown=(), short=tuple(short)))
        await store.move(conn, Move.HOLD, existing.lines)
        again = replace(existing, state=HoldState.HELD, expires_at=expires_at)
        await store.change_hold(conn, again, now=now)
    return Opened(hold_id, expires_at, is_new=True)


async def drop_hold(database: Database, clock: Clock, hold_id: UUID) -> None:
    """Let a hold go. Idempotent; an unknown id gets a tombstone, so that a request to open it
    that is still on its way is refused. Raises Conflict `hold_reserved` for a paid order's hold.
    """
    for _attempt in range(_TRIES):
        try:
            await _drop(database, hold_id, clock.now())
        except SerializationFailure:
            continue
        return
    raise Conflict("the hold is being changed; ask again", code="serialization_failure")


async def _drop(database: Database, hold_id: UUID, now: datetime) -> None:
    async with database.transaction() as conn:
        existing = await store.lock_hold(conn, hold_id)
        what = let_go(existing)
        if existing is None:
            stone = Hold(hold_id, HoldState.RELEASED, (), None)
            await store.add_hold(conn, stone, user_id="", now=now)
            return
        await store.move(conn, what, existing.lines)
        released = replace(existing, state=HoldState.RELEASED, expires_at=None)
        await store.change_hold(conn, released, now=now)


async def set_stock(database: Database, product_id: str, initial: int) -> Level:
    """Say how many pieces of a product there are in all. Idempotent.

    Raises Conflict `stock_in_use` if more than that is held or reserved.
    """
    try:
        async with database.autocommit() as conn:
            return await store.set_initial(conn, product_id, initial)
    except Conflict as error:
        if error.stable_code == "check_violation":
            raise Conflict(
                "more pieces than that are held or reserved", code="stock_in_use"
            ) from error
        raise


async def stock_of(database: Database, product_id: str) -> Level:
    """One product's pieces. Raises NotFound `unknown_product`."""
    async with database.autocommit(read_only=True) as conn:
        level = await store.find_level(conn, product_id)
    if level is None:
        raise NotFound(f"no product {product_id}", code="unknown_product")
    return level


async def sweep(database: Database, clock: Clock, *, batch: int) -> int:
    """End every hold that is due, in short transactions of `batch` holds; returns how many."""
    total = 0
    while True:
        async with database.autocommit() as conn:
            ended = await store.expire(conn, now=clock.now(), limit=batch)
        total += ended
        if ended < batch:
            return total


def _refusal(taken: store.Taken) -> NotFound | Conflict:
    if taken.unknown:
        return NotFound(f"no product {', '.join(taken.unknown)}", code="unknown_product")
    if taken.short:
        return Conflict(f"not enough of {', '.join(taken.short)}", code="out_of_stock")
    return Conflict("the hold is being changed; ask again", code="serialization_failure")
