"""StockCalls over Thrift: its generated client blocks, so it lives in a pool of one thread."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TException
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport

from month3_messaging.concurrency import BlockingPool
from month3_messaging.rpc.error_codes import rebuilt
from month3_messaging.rpc.generated import thrift_inventory as service
from month3_messaging.rpc.generated.thrift_ttypes import HoldRequest, Line, Refused
from month3_messaging.rpc.stock_desk import Hold
from scalelab.errors import OutcomeUnknown, Unavailable

_GRACE_S = 5.0
R = TypeVar("R")


class ThriftStock:
    """One connection, one call at a time; an async context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = TSocket(host, port)
        self._transport = TFramedTransport(self._socket)
        self._client: Any = service.Client(TBinaryProtocol(self._transport))
        self._pool = BlockingPool("thrift", threads=1, waiting=100)

    async def __aenter__(self) -> Self:
        self._pool.__enter__()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._pool.close()
        self._transport.close()

    async def hold(self, hold: Hold, *, timeout_s: float) -> bool:
        lines = [Line(product_id=one.product_id, quantity=one.quantity) for one in hold.lines]
        request = HoldRequest(
            hold_id=hold.hold_id,
            lines=lines,
            ttl_s=hold.ttl_s,
            timeout_ms=round(1000 * timeout_s),
        )
        return await self._call(lambda: self._client.hold(request), timeout_s, safe=False)

    async def levels(self, product_ids: Sequence[str], *, timeout_s: float) -> dict[str, int]:
        ids = list(product_ids)
        return await self._call(lambda: self._client.levels(ids), timeout_s, safe=True)

    async def _call(self, ask: Callable[[], R], timeout_s: float, *, safe: bool) -> R:
        def blocking() -> R:
            # The time-out is in the call, so that it gives its thread back.
            self._socket.setTimeout(1000 * timeout_s)
            if not self._transport.isOpen():
                try:
                    self._transport.open()
                except TException as error:
                    raise Unavailable(str(error)) from error
            try:
                return ask()
            except Refused as error:
                raise rebuilt(error.kind, error.code, error.message, safe=safe) from error
            except (TException, OSError, EOFError) as error:
                # A late answer would be taken for that of the next call.
                self._transport.close()
                kind = Unavailable if safe else OutcomeUnknown
                raise kind(f"no answer: {error}") from error

        return await self._pool.call_from_loop(blocking, timeout_s=timeout_s + _GRACE_S)
