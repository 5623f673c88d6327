"""A catalogue to look at: any number of pleasant products, the same for the same seed.

`draw` is pure; `seed` writes all of them in one statement. Arrays instead of one parameter per
value, because the protocol carries at most 65,535 parameters.
"""

from __future__ import annotations

from random import Random

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from month1_caching_gateway.catalog.database import DatabaseSettings, Sessions
from month1_caching_gateway.catalog.product import Draft

CURRENCY = "EUR"

_GOODS = {
    "kitchen": ("Mug", "Teapot", "Chopping Board", "Bread Knife", "Saucepan", "Salad Bowl"),
    "desk": ("Notebook", "Fountain Pen", "Desk Lamp", "Pencil Case", "Paper Tray", "Ruler"),
    "outdoor": ("Rucksack", "Water Bottle", "Rain Jacket", "Trail Map", "Head Torch", "Blanket"),
    "home": ("Cushion", "Candle", "Picture Frame", "Door Mat", "Plant Pot", "Wall Clock"),
    "play": ("Chess Set", "Kite", "Jigsaw", "Skipping Rope", "Yo-yo", "Wooden Train"),
}
_MATERIALS = ("Oak", "Linen", "Copper", "Wool", "Cork", "Stoneware", "Bamboo", "Canvas", "Slate")
_MANNERS = ("Little", "Everyday", "Sunday", "Northern", "Harbour", "Garden", "Quiet", "Festive")
_PRAISE = (
    "made to be used daily",
    "a present that gets kept",
    "sturdy enough to be handed down",
    "light, plain and easy to mend",
    "finished by hand in small batches",
)
_LOWEST_MINOR, _HIGHEST_MINOR = 290, 14_990


def product_id(number: int) -> str:
    """The id of the seeded product `number` (from 1): p-0001, p-0002, …"""
    return f"p-{number:04d}"


def draw(count: int, seed: int) -> list[tuple[str, Draft]]:
    """The first `count` products of `seed`. A larger count begins with the same products."""
    return [(product_id(number), _one(number, seed)) for number in range(1, count + 1)]


def _one(number: int, seed: int) -> Draft:
    random = Random(f"{seed}/{number}")
    category = random.choice(sorted(_GOODS))
    good, material = random.choice(_GOODS[category]), random.choice(_MATERIALS)
    price_tens = random.randint(_LOWEST_MINOR // 10, _HIGHEST_MINOR // 10)
    return Draft(
        name=f"{random.choice(_MANNERS)} {material} {good}",
        description=f"{good} with {material.lower()}, {random.choice(_PRAISE)}.",
        category=category,
        unit_minor=price_tens * 10,
        currency=CURRENCY,
    )


async def seed(session: AsyncSession, count: int, seed: int) -> int:
    """Insert the products of `draw`; products that exist stay as they are. Returns how many are
    new. The caller commits."""
    drafts = draw(count, seed)
    inserted = await session.execute(
        text(
            "INSERT INTO product (product_id, name, description, category, unit_minor, currency)"
            " SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:names AS text[]),"
            " CAST(:descriptions AS text[]), CAST(:categories AS text[]),"
            " CAST(:prices AS bigint[]), CAST(:currencies AS text[]))"
            " ON CONFLICT DO NOTHING RETURNING product_id"
        ),
        {
            "ids": [key for key, _ in drafts],
            "names": [draft.name for _, draft in drafts],
            "descriptions": [draft.description for _, draft in drafts],
            "categories": [draft.category for _, draft in drafts],
            "prices": [draft.unit_minor for _, draft in drafts],
            "currencies": [draft.currency for _, draft in drafts],
        },
    )
    return len(inserted.all())


async def fill(dsn: str, count: int, number: int) -> int:
    """`seed` the database behind `dsn` in a transaction of its own; how many products are new."""
    async with Sessions(DatabaseSettings(dsn)) as sessions, sessions.writing() as session:
        return await seed(session, count, number)
