"""Products in PostgreSQL: the table and the statements, as functions over a session.

A page is found by its position (`product_id > after`), not by an offset: it costs the same on
the first page and on the last, and a product inserted meanwhile shifts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, Text, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from month1_caching_gateway.catalog.product import Draft, Product


class Base(DeclarativeBase):
    """The catalogue's own metadata. The schema itself is made by migrations, never from here."""


class ProductRow(Base):
    """A row of `product`; constraints stand in the migration."""

    __tablename__ = "product"

    product_id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    unit_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    updated_at: Mapped[datetime]


_COLUMNS = (
    ProductRow.product_id,
    ProductRow.name,
    ProductRow.description,
    ProductRow.category,
    ProductRow.unit_minor,
    ProductRow.currency,
    ProductRow.version,
)


async def find(session: AsyncSession, product_ids: Sequence[str]) -> dict[str, Product]:
    """The products of these ids, in one statement; unknown ids are absent."""
    rows = await session.execute(
        select(*_COLUMNS).where(ProductRow.product_id.in_(sorted(set(product_ids))))
    )
    return {row.product_id: Product(*row) for row in rows}


async def page(session: AsyncSession, *, after: str, limit: int) -> list[Product]:
    """Up to `limit` products in order of id, beginning after the id `after` ("" is the start)."""
    rows = await session.execute(
        select(*_COLUMNS)
        .where(ProductRow.product_id > after)
        .order_by(ProductRow.product_id)
        .limit(limit)
    )
    return [Product(*row) for row in rows]


async def put(session: AsyncSession, product_id: str, draft: Draft) -> tuple[Product, bool]:
    """Make or replace a product; says whether it was made.

    Idempotent: the same draft again changes nothing, not even the version. Concurrent puts of one
    id are serialised by the row's lock, so versions are given out without a gap or a double.
    """
    values = {
        "name": draft.name,
        "description": draft.description,
        "category": draft.category,
        "unit_minor": draft.unit_minor,
        "currency": draft.currency,
    }
    statement = insert(ProductRow).values(product_id=product_id, version=1, **values)
    excluded = statement.excluded
    differs = func.row(*(getattr(ProductRow, name) for name in values)).is_distinct_from(
        func.row(*(excluded[name] for name in values))
    )
    changed = (
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=[ProductRow.product_id],
                set_={**values, "version": ProductRow.version + 1, "updated_at": func.now()},
                where=differs,
            ).returning(*_COLUMNS)
        )
    ).one_or_none()
    if changed is not None:
        product = Product(*changed)
        return product, product.version == 1
    unchanged = await find(session, [product_id])
    return unchanged[product_id], False
