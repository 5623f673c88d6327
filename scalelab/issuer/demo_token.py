"""Tokens for whoever may read the signing key.

There is no token endpoint on purpose: on a shared machine every process could ask it to become an
administrator. Here the right to sign is the right to read one file (mode 0600).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scalelab.clock import Clock
from scalelab.security import SigningKey, TokenIssuer


def demo_token(
    key_file: Path,
    *,
    issuer: str,
    audience: str,
    subject: str,
    scopes: Iterable[str],
    ttl_s: float,
    clock: Clock,
) -> str:
    """A token of `subject`, signed with the key in `key_file`, which must be there.

    Raises CorruptData (no key of ours, or readable by others), OSError, InvalidInput.
    """
    key = SigningKey.load(key_file)
    return TokenIssuer(key, issuer, audience, clock).issue(subject, scopes, ttl_s)
