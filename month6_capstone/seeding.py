"""What a new shop is filled with: products, their stock, and customers who can sign in.

Repeatable: what exists stays as it is, so a second start changes nothing. The demo's password is
public on purpose; its accounts own nothing but demo orders.
"""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from pydantic_settings import BaseSettings, SettingsConfigDict

from month1_caching_gateway.catalog import DatabaseSettings, Sessions, product_id
from month1_caching_gateway.catalog import seed as seed_products
from month6_capstone.identity import Costs, SeedUser, hash_password, seed_users
from month6_capstone.topology import DEMO_PASSWORD, demo_emails
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock


class SeedSettings(BaseSettings):
    """Read from SEED_… variables. stock: pieces of each product; number: seed of the catalogue."""

    model_config = SettingsConfigDict(env_prefix="SEED_", frozen=True)

    products: int = 500
    users: int = 40
    stock: int = 10_000
    number: int = 1


def demo_user_id(email: str) -> str:
    """The id of a seeded customer: derived, so that a client log of an earlier run still fits."""
    return str(uuid5(NAMESPACE_URL, f"mailto:{email}"))


async def seed_catalog(dsn: str, settings: SeedSettings) -> None:
    """Insert the catalogue's products that are missing."""
    async with Sessions(DatabaseSettings(dsn)) as sessions, sessions.writing() as session:
        await seed_products(session, settings.products, settings.number)


async def seed_accounts(dsn: str, settings: SeedSettings) -> None:
    """Insert the demo's customers that are missing; all share one hash of one known password."""
    users = [SeedUser(demo_user_id(email), email) for email in demo_emails(settings.users)]
    async with Database(PostgresSettings(dsn), name="identity") as database:
        await seed_users(
            database,
            users,
            password_hash=hash_password(DEMO_PASSWORD, Costs()),
            now=SystemClock().now(),
        )


async def seed_stock(dsn: str, settings: SeedSettings) -> None:
    """Give every product its first stock; a product that has some keeps what it has."""
    ids = [product_id(number) for number in range(1, settings.products + 1)]
    async with (
        Database(PostgresSettings(dsn), name="inventory") as database,
        database.transaction() as connection,
    ):
        await connection.execute(
            "INSERT INTO stock (product_id, initial, available)"
            " SELECT id, %s, %s FROM unnest(%s::text[]) AS id ON CONFLICT DO NOTHING",
            (settings.stock, settings.stock, ids),
        )
