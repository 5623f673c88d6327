"""Ending our half of a connection that the other side may have reset meanwhile."""

from __future__ import annotations

import asyncio


def half_close(transport: asyncio.WriteTransport) -> bool:
    """Say that nothing more comes, once all is written. False: the connection must be closed.

    asyncio's own transport shuts the socket down at once when nothing waits to be written, and a
    socket that was reset answers ENOTCONN, a plain OSError; uvloop's says nothing.
    """
    if not transport.can_write_eof():
        return False
    try:
        transport.write_eof()
    except OSError:
        return False
    return True
