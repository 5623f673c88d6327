"""The issuer process: publishes the key that the stack's tokens are verified with.

The signing key is made at the first start, in a file only its owner reads. The process answers
with the public half and never signs anything (see demo_token.py for who does).
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from pydantic_settings import BaseSettings, SettingsConfigDict

from scalelab.security import SigningKey, jwks
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


class IssuerSettings(BaseSettings):
    """Environment variables ISSUER_… . key_file: PEM of the signing key, made if missing."""

    model_config = SettingsConfigDict(env_prefix="ISSUER_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    key_file: Path
    trace_export: str = "none"
    log_level: str = "info"


class JwksOut(BaseModel):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, str]]


def create(settings: IssuerSettings, telemetry: Telemetry) -> FastAPI:
    """The app. Reads or makes the key now: CorruptData names a file that is none of ours."""
    key = SigningKey.load_or_create(settings.key_file)
    router = APIRouter(tags=["keys"])

    @router.get("/.well-known/jwks.json", response_model=JwksOut)
    async def keys() -> dict[str, list[dict[str, str]]]:
        """The public keys of this issuer."""
        return jwks([key])

    return create_app(telemetry=telemetry, title="Issuer", routers=[router])
