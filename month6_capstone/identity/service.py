"""The identity process: settings, wiring, migrations."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from pydantic_settings import BaseSettings, SettingsConfigDict

from month6_capstone.identity.keys import load_keys
from month6_capstone.identity.passwords import Costs, PasswordPool
from month6_capstone.identity.routes import (
    STATUSES,
    account_router,
    keys_router,
    token_router,
)
from month6_capstone.identity.service_clients import read_clients
from month6_capstone.identity.sign_in import SignIn
from month6_capstone.identity.throttle import Limits, LoginThrottle
from scalelab.clients import migrations
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.security import TokenIssuer
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


class IdentitySettings(BaseSettings):
    """Environment variables IDENTITY_…; times in seconds.

    key_dir: folder of signing keys, a first one is made there. clients_file: registered services
    (see service_clients.py). argon2_*: cost of one password hash and how many run or wait at a
    time. login_*: failed logins allowed at once, drained over login_window_s. trusted_proxies:
    peers whose X-Forwarded-For is believed.
    """

    model_config = SettingsConfigDict(env_prefix="IDENTITY_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    database_dsn: str
    database_pool: int = 8
    key_dir: Path
    token_issuer: str
    token_audience: str
    token_ttl_s: int = 900
    clients_file: Path
    argon2_memory_kib: int = 19_456
    argon2_passes: int = 2
    argon2_lanes: int = 1
    argon2_workers: int = 2
    argon2_queue: int = 64
    login_per_account_and_address: int = 5
    login_per_address: int = 100
    login_window_s: float = 60.0
    trusted_proxies: frozenset[str] = frozenset({"127.0.0.1", "::1"})
    trace_export: str = "none"
    log_level: str = "info"

    @property
    def argon2_costs(self) -> Costs:
        """The parameters of a password hash."""
        return Costs(self.argon2_memory_kib, self.argon2_passes, self.argon2_lanes)


def create(settings: IdentitySettings, telemetry: Telemetry) -> FastAPI:
    """The app over a migrated database. Reads keys and clients now: CorruptData names the file."""
    clock = SystemClock()
    keys = load_keys(settings.key_dir)
    database = Database(
        PostgresSettings(dsn=settings.database_dsn, pool_max=settings.database_pool),
        name="identity",
        tracer=telemetry.tracer,
    )
    passwords = PasswordPool(
        settings.argon2_costs, workers=settings.argon2_workers, queue=settings.argon2_queue
    )
    sign_in = SignIn(
        database=database,
        passwords=passwords,
        throttle=LoginThrottle(
            Limits(
                per_account_and_address=settings.login_per_account_and_address,
                per_address=settings.login_per_address,
                window_s=settings.login_window_s,
            )
        ),
        issuer=TokenIssuer(keys.signing, settings.token_issuer, settings.token_audience, clock),
        clients=read_clients(settings.clients_file),
        token_ttl_s=settings.token_ttl_s,
        clock=clock,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with database, passwords:
            yield

    return create_app(
        telemetry=telemetry,
        title="Identity",
        routers=[
            account_router(sign_in, settings.trusted_proxies),
            token_router(sign_in),
            keys_router(keys.published),
        ],
        lifespan=lifespan,
        readiness={"database": database.ping},
        statuses=STATUSES,
        clock=clock,
    )


def migrate(settings: IdentitySettings) -> None:
    """Bring the schema up to date. Blocking; safe to run in several processes."""
    migrations.upgrade(settings.database_dsn, Path(__file__).with_name("migrations"))
