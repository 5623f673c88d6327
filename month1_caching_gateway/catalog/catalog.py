"""What the catalogue does, over its database and its cache; routes.py puts HTTP around it.

Reads of single products and prices go through one cache of whole products: one invalidation per
write, and a price is never newer or older than the page that shows it. Pages of the list are
read from the database: they are many, and each would need busting by every write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis

from month1_caching_gateway.caching import (
    Answer,
    CacheAside,
    Codec,
    Hook,
    Policy,
    RedisStore,
    Versioned,
)
from month1_caching_gateway.catalog import products
from month1_caching_gateway.catalog.database import Sessions
from month1_caching_gateway.catalog.product import (
    Draft,
    Product,
    decode_cursor,
    decode_product,
    encode_cursor,
    encode_product,
)
from scalelab.clock import Clock

NAMESPACE = "catalog:product:1"
"""Keys in Redis. Raise the number when the cached form of a product changes."""


@dataclass(frozen=True, slots=True)
class Page:
    """Products in order of id. next_cursor: None on the last page."""

    products: list[Product]
    next_cursor: str | None


class Catalog:
    """Products, cached. `cache` is an async context manager that whoever runs this must enter."""

    def __init__(
        self,
        sessions: Sessions,
        redis: Redis,
        *,
        policy: Policy,
        clock: Clock,
        hook: Hook,
        random: Random,
    ) -> None:
        self._sessions = sessions
        self.cache: CacheAside[Product] = CacheAside(
            self._read,
            RedisStore(redis, namespace=NAMESPACE, clock=clock, hook=hook),
            Codec(encode_product, decode_product),
            policy=policy,
            random=random,
            hook=hook,
        )

    async def product(self, product_id: str) -> Answer[Product]:
        """One product, or an answer without a value. Raises Unavailable, Overloaded."""
        return await self.cache.get(product_id)

    async def known(self, product_ids: Sequence[str]) -> list[Product]:
        """Those of the ids that exist, in the order asked, without doubles."""
        answers = await self.cache.get_many(product_ids)
        return [answer.value for answer in answers.values() if answer.value is not None]

    async def page(self, cursor: str | None, limit: int) -> Page:
        """Up to `limit` products after the cursor. Raises InvalidInput code `invalid_cursor`."""
        after = "" if cursor is None else decode_cursor(cursor)
        async with self._sessions.reading() as session:
            found = await products.page(session, after=after, limit=limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return Page(shown, encode_cursor(shown[-1].product_id) if more else None)

    async def put(self, product_id: str, draft: Draft) -> tuple[Product, bool]:
        """Make or replace a product; says whether it was made. Busts the cache after the commit.

        Idempotent. Raises Unavailable (nothing changed) and OutcomeUnknown (put it again: the
        second time it busts for sure, whatever became of the first).
        """
        async with self._sessions.writing() as session:
            product, is_new = await products.put(session, product_id, draft)
        await self.cache.bust(product_id, product.version)
        return product, is_new

    async def _read(self, product_ids: Sequence[str]) -> dict[str, Versioned[Product]]:
        async with self._sessions.reading() as session:
            found = await products.find(session, product_ids)
        return {key: Versioned(product, product.version) for key, product in found.items()}
