"""Products in PostgreSQL: the table and the statements, as functions over a session.

A page is found by its position (`product_id > after`), not by an offset: it costs the same on
the first page and on the last, and a product inserted meanwhile shifts nothing.

A write first takes the row's lock (`lock`), decides on what it found, and says in its statement
which version it decided on: one that changed meanwhile, were the lock ever lost, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import BigInteger, Text, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from month1_caching_gateway.catalog.product import Draft, Product
from scalelab.errors import InvariantBroken


class Base(DeclarativeBase):
    """The catalogue's own metadata. The schema itself is made by migrations, never from here."""


class ProductRow(Base):
    """A row of `product`; constraints stand in the migrations. deleted_at: set means gone."""

    __tablename__ = "product"

    product_id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    unit_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


_COLUMNS = (
    ProductRow.product_id,
    ProductRow.name,
    ProductRow.description,
    ProductRow.category,
    ProductRow.unit_minor,
    ProductRow.currency,
    ProductRow.version,
)
_IS_THERE = ProductRow.deleted_at.is_(None)


@dataclass(frozen=True, slots=True)
class Standing:
    """A row as it stands, locked. is_deleted: it only remembers the version."""

    product: Product
    is_deleted: bool


async def find(session: AsyncSession, product_ids: Sequence[str]) -> dict[str, Product]:
    """The products of these ids, in one statement; unknown ids are absent."""
    rows = await session.execute(
        select(*_COLUMNS).where(ProductRow.product_id.in_(sorted(set(product_ids))), _IS_THERE)
    )
    return {row.product_id: Product(*row) for row in rows}


async def page(session: AsyncSession, *, after: str, limit: int) -> list[Product]:
    """Up to `limit` products in order of id, beginning after the id `after` ("" is the start)."""
    rows = await session.execute(
        select(*_COLUMNS)
        .where(ProductRow.product_id > after, _IS_THERE)
        .order_by(ProductRow.product_id)
        .limit(limit)
    )
    return [Product(*row) for row in rows]


async def lock(session: AsyncSession, product_id: str) -> Standing | None:
    """The row, locked until the transaction ends; None if there never was one."""
    row = (
        await session.execute(
            select(*_COLUMNS, ProductRow.deleted_at)
            .where(ProductRow.product_id == product_id)
            .with_for_update()
        )
    ).one_or_none()
    if row is None:
        return None
    columns = cast("tuple[Any, ...]", tuple(row))
    return Standing(Product(*columns[:-1]), columns[-1] is not None)


async def make(session: AsyncSession, product_id: str, draft: Draft) -> Product | None:
    """Insert the first row of this id; None if somebody else did so meanwhile (lock it then)."""
    row = (
        await session.execute(
            insert(ProductRow)
            .values(product_id=product_id, version=1, **asdict(draft))
            .on_conflict_do_nothing()
            .returning(*_COLUMNS)
        )
    ).one_or_none()
    return None if row is None else Product(*row)


async def replace(session: AsyncSession, standing: Standing, draft: Draft) -> Product:
    """Change a locked row to `draft`, also one that was deleted; the product it then is."""
    return await _change(session, standing, asdict(draft) | {"deleted_at": None})


async def delete(session: AsyncSession, standing: Standing) -> Product:
    """Mark a locked row as gone; the product with the version after its end."""
    return await _change(session, standing, {"deleted_at": func.now()})


async def _change(
    session: AsyncSession, standing: Standing, values: Mapping[str, object]
) -> Product:
    before = standing.product
    row = (
        await session.execute(
            update(ProductRow)
            .where(ProductRow.product_id == before.product_id, ProductRow.version == before.version)
            .values(**values, version=before.version + 1, updated_at=func.now())
            .returning(*_COLUMNS)
        )
    ).one_or_none()
    if row is None:
        raise InvariantBroken(f"the locked row of {before.product_id} has changed")
    return Product(*row)
