"""A token issuer for stacks without an identity service: one key, its public half by HTTP."""

from __future__ import annotations

from scalelab.issuer.demo_token import demo_token
from scalelab.issuer.service import IssuerSettings, create

__all__ = ["IssuerSettings", "create", "demo_token"]
