"""The client's connection, as an exchange sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from month1_caching_gateway.gateway.headers import Caller

if TYPE_CHECKING:
    from month1_caching_gateway.gateway.tunnel import Tunnel


class ClientSide(Protocol):
    """One connection, of which the exchange has the present request and its answer.

    peer: the address at its other end. caller: who that is; None for a trusted hop, which says in
    every request on whose behalf it comes.
    """

    peer: str
    caller: Caller | None

    @property
    def body_is_read(self) -> bool:
        """The whole request has come in."""
        ...

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        ...

    def mind_body(self) -> None:
        """`wants_body` may have changed: read on, or stop."""
        ...

    def skip_body(self) -> bool:
        """Throw away what is left of the body; False if it has not all come."""
        ...

    def answered(self, *, keep_alive: bool) -> None:
        """The answer is written; the next request may be read."""
        ...

    def become(self, tunnel: Tunnel) -> tuple[asyncio.Transport, bytes] | None:
        """Leave the transport to `tunnel`, with what was read and not used; None if it is closing.

        Deadlines and drain go through the tunnel from here on.
        """
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """A tunnel's word that the transport has ended."""
        ...

    def abort(self) -> None:
        """Close at once: what was written must not be taken for a whole answer."""
        ...
