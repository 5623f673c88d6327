"""uvicorn's httptools protocol with a bound on the head of a request.

The parser itself takes a request line and headers of any size into memory. This class counts
octets while a head is incomplete and hangs up at a hard limit far above the app's own (which
answers 431 as a problem document); only a caller that keeps sending headers meets this one.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT = 64 * 1024
"""Octets of one unfinished head that are taken in, give or take one read from the socket."""

_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Hangs up on a head larger than HEAD_LIMIT, answering 431 if it owes no earlier answer."""

    _boundaries = 0
    _head_open = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        boundaries = self._boundaries
        super().data_received(data)
        if boundaries != self._boundaries or not self._head_open:
            self._head_bytes = 0  # these octets ended a head or a body, or were a body's
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT and not self.transport.is_closing():
            if not self.cycle or self.cycle.response_complete:
                self.transport.write(_REFUSAL)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._boundaries += 1
        self._head_open = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._boundaries += 1
        self._head_open = True
        super().on_message_complete()
