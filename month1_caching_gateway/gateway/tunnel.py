"""After a 101: two connections, bytes both ways, and the duties that are left.

Each transport gets a new protocol, so the request path knows nothing of tunnels. What one side
cannot write, the other is not read: at most one read and the transport's own limit are held a
direction. A side that ends its half still gets the other's bytes; when both have, or one is lost,
the tunnel ends. Nothing moving for `tunnel_idle_s` ends it too: services that mean to stay send
pings. At stop it may go on until the drain's end, and is cut then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from month1_caching_gateway.gateway.account import Account
from month1_caching_gateway.gateway.client_side import ClientSide
from month1_caching_gateway.gateway.half_close import half_close
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.upstream_connection import UpstreamConnection

SWITCHED = 101
Lost = Callable[[Exception | None], None]


def open_tunnel(
    plane: Plane,
    account: Account,
    client: ClientSide,
    service: UpstreamConnection,
    rest: bytes,
    head: bytes,
) -> bool:
    """Answer `head`, the 101, and join the two connections; False if the client is just going.

    rest: what the service has sent after its 101.
    """
    tunnel = Tunnel(plane, account, client.connection_lost, service.connection_lost)
    ours = client.become(tunnel)
    theirs = service.give_up()
    if ours is None or theirs is None:
        return False
    client.write(head)
    tunnel.join(ours[0], theirs, ours[1], rest)
    return True


class _Side(asyncio.Protocol):
    """One end; what comes here goes to `other`. on_moved: hears how many bytes."""

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.other: _Side = self
        self.ended = False
        self.taken = 0

    def data_received(self, data: bytes) -> None:
        self.taken += len(data)
        self._tunnel.on_moved()
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        return not self.other.ended and half_close(self.other.transport)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.on_lost(self, broken=exc is not None)


class Tunnel:
    """Owns both transports until both are lost.

    account: of the request that opened it; closed here, with the bytes of both directions.
    deadline_s: of the idle time, and then of the last bytes' way out.
    on_client_lost, on_service_lost: tell those who count the connections.
    """

    def __init__(
        self,
        plane: Plane,
        account: Account,
        on_client_lost: Lost,
        on_service_lost: Lost,
    ) -> None:
        self._plane = plane
        self.account = account
        self._on_lost = (on_client_lost, on_service_lost)
        self._sides: tuple[_Side, _Side] | None = None
        self._open = 0
        self._code = ""
        self.deadline_s = float("inf")

    def join(
        self, client: asyncio.Transport, service: asyncio.Transport, early: bytes, rest: bytes
    ) -> None:
        """Begin. early, rest: what client and service have sent beyond their heads."""
        ours, theirs = self._sides = (_Side(self, client), _Side(self, service))
        ours.other, theirs.other = theirs, ours
        self._open = 2
        self._plane.tunnels += 1
        self._plane.metrics.event("tunnel_opened")
        self.on_moved()
        for side, first in ((ours, early), (theirs, rest)):
            side.transport.set_protocol(side)
            if first:
                side.data_received(first)
            side.transport.resume_reading()

    def on_moved(self) -> None:
        """Bytes went through."""
        settings = self._plane.settings
        self.deadline_s = self._plane.clock.monotonic_s() + settings.tunnel_idle_s

    def on_deadline(self) -> None:
        """Nothing moved for too long, or the last bytes were not taken."""
        self._cut("tunnel_idle")

    def cut(self) -> None:
        """End it now, whatever is under way."""
        self._cut("gateway_stopped")

    def on_lost(self, side: _Side, *, broken: bool) -> None:
        """One connection has gone: the other gets what is on its way to it, for a moment."""
        if self._sides is None:
            return
        self._open -= 1
        self._on_lost[self._sides.index(side)](None)
        if not self._open:
            self._end()
        elif broken:
            self._code = self._code or "tunnel_broken"
            side.other.transport.abort()
        else:
            linger_s = self._plane.settings.linger_s
            self.deadline_s = self._plane.clock.monotonic_s() + linger_s
            side.other.transport.close()

    def _cut(self, code: str) -> None:
        self._code = self._code or code
        for side in self._sides or ():
            side.transport.abort()

    def _end(self) -> None:
        if self._sides is not None:
            ours, theirs = self._sides
            self.account.bytes_in += ours.taken
            self.account.bytes_out += theirs.taken
        self._sides = None
        self.deadline_s = float("inf")
        self._plane.tunnels -= 1
        self.account.close(SWITCHED, self._code)
