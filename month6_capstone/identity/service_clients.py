"""The services that may ask for a token of their own, and how their secrets are checked.

The file is JSON and holds digests, never secrets:

    {"clients": [{"client_id": "orders", "secret_sha256": "<64 hex>", "scopes": ["internal"]}]}

A plain SHA-256 is right here and would be wrong for passwords: a client secret is 256 random bits
made by a program, so there is nothing to guess and no reason to be slow.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scalelab.errors import CorruptData, InvalidInput, Unauthenticated

_NOBODYS_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """One registered client. secret_sha256: 64 lower-case hex digits."""

    client_id: str
    secret_sha256: str
    scopes: frozenset[str]


class _ClientWire(BaseModel):
    model_config = ConfigDict(extra="forbid")
    client_id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,60}$")]
    secret_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: list[Annotated[str, Field(pattern=r"^[a-z0-9:._-]{1,40}$")]]


class _FileWire(BaseModel):
    model_config = ConfigDict(extra="forbid")
    clients: list[_ClientWire]


def register_client(client_id: str, secret: str, scopes: Iterable[str]) -> ServiceClient:
    """The record to keep for a client that will hold `secret`."""
    return ServiceClient(client_id, _digest(secret), frozenset(scopes))


def write_clients(path: Path, clients: Iterable[ServiceClient]) -> None:
    """Write the file that `read_clients` reads (mode 0600), whole or not at all."""
    content = {
        "clients": [
            {
                "client_id": client.client_id,
                "secret_sha256": client.secret_sha256,
                "scopes": sorted(client.scopes),
            }
            for client in clients
        ]
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def read_clients(path: Path) -> dict[str, ServiceClient]:
    """The registered clients by id. Raises CorruptData naming the file and the first fault."""
    try:
        wire = _FileWire.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CorruptData(f"the clients file {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorruptData(f"the clients file {path}: {where}: {first['msg']}") from error
    return {
        client.client_id: ServiceClient(
            client.client_id, client.secret_sha256, frozenset(client.scopes)
        )
        for client in wire.clients
    }


def authenticate(clients: dict[str, ServiceClient], client_id: str, secret: str) -> ServiceClient:
    """The client whose secret this is.

    Raises Unauthenticated code `invalid_client`, after the same comparison whether the id is
    unknown or the secret is wrong.
    """
    known = clients.get(client_id)
    expected = known.secret_sha256 if known else _NOBODYS_DIGEST
    right = hmac.compare_digest(expected, _digest(secret))
    if known is None or not right:
        raise Unauthenticated("unknown client or wrong secret", code="invalid_client")
    return known


def grant_scopes(client: ServiceClient, requested: str | None) -> frozenset[str]:
    """The scopes of the token: those asked for, or all of the client's if none were named.

    Raises InvalidInput code `invalid_scope` for one that the client does not have.
    """
    if not requested:
        return client.scopes
    wanted = frozenset(requested.split())
    if not wanted <= client.scopes:
        raise InvalidInput(
            "a scope was asked for that this client does not have",
            field="scope",
            code="invalid_scope",
        )
    return wanted


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
