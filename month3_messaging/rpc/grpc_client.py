"""StockCalls over gRPC, with its own retry policy: the channel repeats what is safe to repeat."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Self

import grpc

from month3_messaging.rpc.error_codes import rebuilt
from month3_messaging.rpc.generated import inventory_pb2 as pb
from month3_messaging.rpc.generated import inventory_pb2_grpc as stubs
from month3_messaging.rpc.grpc_door import CODE, KIND, SERVICE
from month3_messaging.rpc.stock_desk import Hold
from scalelab.errors import OutcomeUnknown, ScalelabError, Unavailable

_NO_ANSWER = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


def service_config(attempts: int) -> str:
    """The retry policy as gRPC's service config: only UNAVAILABLE, with growing waits, and no more
    retries than a tenth of the calls once many fail. attempts: 2..5, the first included."""
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps(
        {
            "methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": policy}],
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        }
    )


class GrpcStock:
    """One channel to one address; an async context manager. attempts: 1 is no retry."""

    def __init__(self, address: str, *, attempts: int = 1) -> None:
        options: list[tuple[str, Any]] = [("grpc.enable_retries", int(attempts > 1))]
        if attempts > 1:
            options.append(("grpc.service_config", service_config(attempts)))
        # Its own connection: channels of one process to one address would share theirs.
        options.append(("grpc.use_local_subchannel_pool", 1))
        self._address = address
        self._options = options

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=self._options)
        self._stub = stubs.InventoryStub(self._channel)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._channel.close()

    async def hold(self, hold: Hold, *, timeout_s: float) -> bool:
        lines = [pb.Line(product_id=one.product_id, quantity=one.quantity) for one in hold.lines]
        try:
            request = pb.HoldRequest(hold_id=hold.hold_id, lines=lines, ttl_s=hold.ttl_s)
            reply = await self._stub.Hold(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise failure(error, safe=False) from error
        return bool(reply.taken)

    async def levels(self, product_ids: Sequence[str], *, timeout_s: float) -> dict[str, int]:
        try:
            request = pb.LevelsRequest(product_ids=product_ids)
            reply = await self._stub.Levels(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise failure(error, safe=True) from error
        return dict(reply.free)

    async def watch(
        self, product_ids: Sequence[str], *, timeout_s: float | None = None
    ) -> AsyncGenerator[dict[str, int], None]:
        """The levels now and after every change. Whoever stops iterating hangs up."""
        call = self._stub.Watch(pb.LevelsRequest(product_ids=product_ids), timeout=timeout_s)
        try:
            async for reply in call:
                yield dict(reply.free)
        except grpc.aio.AioRpcError as error:
            raise failure(error, safe=True) from error
        finally:
            call.cancel()


def failure(error: grpc.aio.AioRpcError, *, safe: bool) -> ScalelabError:
    """Our error. A status that comes without our metadata was given by gRPC itself: no answer."""
    metadata = {key: str(value) for key, value in error.trailing_metadata() or ()}
    message = error.details() or error.code().name
    if KIND in metadata:
        return rebuilt(metadata[KIND], metadata.get(CODE, metadata[KIND]), message, safe=safe)
    if error.code() in _NO_ANSWER:
        return Unavailable(message) if safe else OutcomeUnknown(message)
    return rebuilt(error.code().name.lower(), "", message, safe=safe)
