"""The client's connection, as an exchange sees it."""

from __future__ import annotations

from typing import Protocol

from month1_caching_gateway.gateway.headers import Caller


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

    def abort(self) -> None:
        """Close at once: what was written must not be taken for a whole answer."""
        ...
