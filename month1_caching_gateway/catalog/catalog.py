"""What the catalogue does, over its database and its cache; routes.py puts HTTP around it.

Reads of single products and prices go through one cache of whole products: one invalidation per
write, and a price is never newer or older than the page that shows it. Pages of the list are
read from the database: they are many, and each would need busting by every write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

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
from month1_caching_gateway.catalog.entity_tags import Precondition
from month1_caching_gateway.catalog.keeping import check, needs_write, patched
from month1_caching_gateway.catalog.product import (
    Draft,
    Product,
    decode_cursor,
    decode_product,
    encode_cursor,
    encode_product,
)
from scalelab.clock import Clock
from scalelab.errors import InvariantBroken, NotFound

NAMESPACE = "catalog:product:1"
"""Keys in Redis. Raise the number when the cached form of a product changes."""

ANYTHING = Precondition()
"""No precondition: whatever stands may be written over."""


def unknown_product() -> NotFound:
    """There is no such product, or no longer."""
    return NotFound("there is no such product", code="unknown_product")


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

    async def put(
        self,
        product_id: str,
        draft: Draft,
        precondition: Precondition = ANYTHING,
        representation: int = 1,
    ) -> tuple[Product, bool]:
        """Make or replace a product; says whether it was made. Busts the cache after the commit.

        Idempotent. Raises Conflict `precondition_failed`, Unavailable (nothing changed) and
        OutcomeUnknown (put it again: the second time it busts for sure, whatever became of the
        first).
        """
        async with self._sessions.writing() as session:
            product, is_new = await self._put(
                session, product_id, draft, precondition, representation
            )
        await self.cache.bust(product_id, product.version)
        return product, is_new

    async def patch(
        self,
        product_id: str,
        change: Callable[[Product], Draft],
        precondition: Precondition,
        representation: int,
    ) -> Product:
        """Change a product by what `change` makes of it. Busts the cache after the commit.

        Raises NotFound `unknown_product`, Conflict `precondition_failed`, what `change` raises,
        and as `put`.
        """
        async with self._sessions.writing() as session:
            standing = await products.lock(session, product_id)
            if standing is None or standing.is_deleted:
                raise unknown_product()
            wanted = patched(standing.product, change, precondition, representation)
            product = standing.product
            if wanted is not None:
                product = await products.replace(session, standing, wanted)
        await self.cache.bust(product_id, product.version)
        return product

    async def delete(
        self, product_id: str, precondition: Precondition, representation: int
    ) -> None:
        """Remove a product; one that is not there is removed already. Raises as `put`."""
        async with self._sessions.writing() as session:
            standing = await products.lock(session, product_id)
            if standing is None:
                return
            gone = standing.product
            if not standing.is_deleted:
                check(standing.product, precondition, representation)
                gone = await products.delete(session, standing)
        await self.cache.bust(product_id, gone.version)

    async def _put(
        self,
        session: AsyncSession,
        product_id: str,
        draft: Draft,
        precondition: Precondition,
        representation: int,
    ) -> tuple[Product, bool]:
        standing = await products.lock(session, product_id)
        if standing is None:
            check(None, precondition, representation)
            made = await products.make(session, product_id, draft)
            if made is not None:
                return made, True
            standing = await products.lock(session, product_id)  # somebody made it meanwhile
        if standing is None:
            raise InvariantBroken(f"the row of {product_id} came and went")
        visible = None if standing.is_deleted else standing.product
        if not needs_write(visible, draft, precondition, representation):
            return standing.product, False
        return await products.replace(session, standing, draft), standing.is_deleted

    async def _read(self, product_ids: Sequence[str]) -> dict[str, Versioned[Product]]:
        async with self._sessions.reading() as session:
            found = await products.find(session, product_ids)
        return {key: Versioned(product, product.version) for key, product in found.items()}
