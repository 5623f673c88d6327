"""Identity over a real PostgreSQL, its key folder and its clients file."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import month6_capstone.identity
from month6_capstone.identity import register_client, write_clients
from month6_capstone.identity.service import IdentitySettings, create
from scalelab.clients.migrations import upgrade
from scalelab.telemetry import TelemetrySettings, build_telemetry
from tests.fixtures.databases import DatabaseOf

ISSUER, AUDIENCE = "https://identity.test", "shop-test"
SECRET = "a-secret-of-orders"


@dataclass(frozen=True, slots=True)
class Bureau:
    """A running identity service and how to call it."""

    settings: IdentitySettings
    app: FastAPI
    client: httpx.AsyncClient

    async def register(self, email: str, password: str) -> httpx.Response:
        """POST /api/v1/auth/register."""
        return await self.client.post(
            "/api/v1/auth/register", json={"email": email, "password": password}
        )

    async def login(self, email: str, password: str, address: str = "") -> httpx.Response:
        """POST /api/v1/auth/login, as forwarded for `address`."""
        return await self.client.post(
            "/api/v1/auth/login",
            json={"email": email, "password": password},
            headers={"x-forwarded-for": address} if address else {},
        )


def build_bureau(settings: IdentitySettings) -> Bureau:
    """An app that nobody has started, and a client that calls it in process."""
    telemetry = build_telemetry(TelemetrySettings("identity"), stream=io.StringIO())
    app = create(settings, telemetry)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://identity.test")
    return Bureau(settings, app, client)


def _migrate(dsn: str) -> None:
    upgrade(dsn, Path(month6_capstone.identity.__file__).parent / "migrations")


@pytest.fixture
def settings(database_of: DatabaseOf, tmp_path: Path) -> IdentitySettings:
    """Settings with the cheapest hashes over a migrated database."""
    clients = tmp_path / "clients.json"
    write_clients(
        clients,
        [
            register_client("orders", SECRET, ["internal"]),
            register_client("operator", "another-secret", ["internal", "admin"]),
        ],
    )
    values: dict[str, Any] = {
        "port": 0,
        "database_dsn": database_of(_migrate),
        "key_dir": tmp_path / "keys",
        "clients_file": clients,
        "token_issuer": ISSUER,
        "token_audience": AUDIENCE,
        "argon2_memory_kib": 8,
        "argon2_passes": 1,
    }
    return IdentitySettings(**values)


@pytest.fixture
async def bureau(settings: IdentitySettings) -> AsyncIterator[Bureau]:
    """A running identity service."""
    built = build_bureau(settings)
    async with built.app.router.lifespan_context(built.app), built.client:
        yield built
