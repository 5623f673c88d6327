"""The purge as a small service beside the edges: one call takes an answer out of all of them.

On a real network one of these runs at each edge and a control plane calls all; here one process
reaches every cache folder. It listens on loopback only and wants a token. A purge is safe to
repeat: after a 503 the caller does so.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month1_caching_gateway.edge.purge import purge
from scalelab.errors import Unauthenticated, Unavailable
from scalelab.telemetry import Telemetry
from scalelab.web import create_app, serve


class PurgeSettings(BaseSettings):
    """Read from PURGE_… variables. caches: JSON object, edge → folder. token_file: of the caller's
    token."""

    model_config = SettingsConfigDict(env_prefix="PURGE_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    caches: dict[str, Path]
    token_file: Path
    trace_export: str = "none"
    log_level: str = "info"


class PurgeIn(BaseModel):
    """What to take out. target: path and query as a client sends them."""

    model_config = ConfigDict(extra="forbid")

    target: Annotated[str, Field(min_length=1, max_length=8192, pattern=r"^/[\x21-\x7e]*$")]
    prefix: bool = False


class PurgeOut(BaseModel):
    """How many answers were taken out, by edge."""

    removed: dict[str, int]


def create_purge_app(caches: Mapping[str, Path], token: str, *, telemetry: Telemetry) -> FastAPI:
    """The service over the cache folders of the edges, by name."""
    router = APIRouter(tags=["purge"])

    @router.post("/purge", response_model=PurgeOut)
    async def purge_all(body: PurgeIn, authorization: Annotated[str, Header()] = "") -> PurgeOut:
        """Take an address, or all below a prefix, out of every edge; done when this returns."""
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise Unauthenticated("The purge wants its own token.", code="token_invalid")
        removed: dict[str, int] = {}
        lost: list[str] = []
        for name, folder in caches.items():
            try:
                removed[name] = await asyncio.to_thread(
                    purge, folder, body.target, prefix=body.prefix
                )
            except OSError:
                lost.append(name)
        if lost:
            raise Unavailable(f"not purged: {', '.join(sorted(lost))}; try again")
        return PurgeOut(removed=removed)

    return create_app(telemetry=telemetry, title="Purge", routers=[router])


async def run_purge(settings: PurgeSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises Unavailable if the port is taken."""
    token = settings.token_file.read_text(encoding="ascii").strip()
    app = create_purge_app(settings.caches, token, telemetry=telemetry)
    await serve(app, host=settings.host, port=settings.port, stop=stop)
