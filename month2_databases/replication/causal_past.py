"""Causal past: what a session wrote and saw, and how pasts travel and merge. Pure.

Theory of operation
    A position stands for every commit before it. Whoever has read at position p and sends a
    message may have been moved by anything up to p; the receiver's next read must not be older.
    So a past goes along with each answer and each message, and merging two of them is taking the
    later position of each cluster: a join, in any order, any number of times.

    Across a failover the later timeline wins. What was written on the old one either came before
    the switch, and then every position on the new one covers it, or it is lost, and then nobody
    can show it.

        "v1.shop.1.22113560.<signature> v1.books.2.9120.<signature>"   one token a cluster

Invariants (tests cite them)
    I1  later() is commutative, associative and idempotent on tokens of one cluster.
    I2  Merging never lowers a position: what was covered stays covered.
    I3  A text with a token that does not verify gives a refused past: read the primary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from month2_databases.replication.consistency_token import ConsistencyToken, sign, verify
from scalelab.errors import InvalidInput

TOKENS_MAX = 16
"""Clusters one header may name; a longer text is refused."""


@dataclass(frozen=True, slots=True)
class Past:
    """Positions in one cluster's log. written: by this session. seen: by its reads or messages.

    is_refused: something came along that cannot be trusted, so nothing is known (I3).
    """

    written: ConsistencyToken | None = None
    seen: ConsistencyToken | None = None
    is_refused: bool = False


NOTHING = Past()


def later(one: ConsistencyToken | None, other: ConsistencyToken | None) -> ConsistencyToken | None:
    """The position that covers both (I1, I2). Raises InvalidInput for two clusters."""
    if one is None or other is None:
        return one or other
    if one.server != other.server:
        raise InvalidInput(
            f"positions of {one.server} and {other.server} do not compare", field="token"
        )
    return max(one, other, key=lambda token: (token.timeline, token.lsn))


def after_write(past: Past, token: ConsistencyToken) -> Past:
    """The past once a commit at `token` is acknowledged."""
    return replace(past, written=later(past.written, token))


def after_read(past: Past, token: ConsistencyToken) -> Past:
    """The past once something was read that is no newer than `token`."""
    return replace(past, seen=later(past.seen, token))


def after_message(
    past: Past, text: str, *, cluster: str, keys: Sequence[bytes], is_own: bool = False
) -> Past:
    """The past once a message with the header `text` has arrived; "" carries nothing (I2, I3).

    is_own: the header comes back from this very session, so it names own writes as well. Tokens
    of other clusters are checked and left aside.
    """
    words = text.split()
    if len(words) > TOKENS_MAX:
        return replace(past, is_refused=True)
    for word in words:
        token = verify(word, keys)
        if token is None:
            return replace(past, is_refused=True)
        if token.server == cluster:
            past = after_read(past, token)
            past = after_write(past, token) if is_own else past
    return past


def header(pasts: Sequence[Past], key: bytes) -> str:
    """The text that carries these pasts, at most one of each cluster, to whoever comes next."""
    tokens = [token for past in pasts if (token := later(past.written, past.seen))]
    if len({token.server for token in tokens}) != len(tokens) or len(tokens) > TOKENS_MAX:
        raise InvalidInput(
            f"a header has one past for each of at most {TOKENS_MAX} clusters", field="pasts"
        )
    return " ".join(sign(token, key) for token in tokens)
