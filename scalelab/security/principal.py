"""Who a request speaks for, after its token has been verified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Principal:
    """subject: user or service. scopes: what it may do. client_id: set for service tokens.

    token_id: the token's jti. expires_at: aware, UTC; the instant without leeway.
    """

    subject: str
    scopes: frozenset[str]
    client_id: str | None
    token_id: str
    expires_at: datetime
