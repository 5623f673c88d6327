"""The client's connection, as an exchange sees it."""

from __future__ import annotations

from typing import Protocol


class ClientSide(Protocol):
    """One connection, of which the exchange has the present request and its answer."""

    peer: str

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
