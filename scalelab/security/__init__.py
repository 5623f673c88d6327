"""Tokens: who may issue them, how they are verified, and how services get their own."""

from __future__ import annotations

from scalelab.security.aiohttp_fetch import fetch as http_fetch
from scalelab.security.issuer import TokenIssuer
from scalelab.security.jwks import HttpJwks, JwksSource, StaticJwks
from scalelab.security.keys import SigningKey, jwks
from scalelab.security.principal import Principal
from scalelab.security.service_tokens import ServiceTokens
from scalelab.security.verifier import TokenVerifier

__all__ = [
    "HttpJwks",
    "JwksSource",
    "Principal",
    "ServiceTokens",
    "SigningKey",
    "StaticJwks",
    "TokenIssuer",
    "TokenVerifier",
    "http_fetch",
    "jwks",
]
