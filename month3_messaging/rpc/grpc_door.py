"""The gRPC door: deadline and cancellation are the protocol's own; health, reflection.

    async with serving_grpc(desk) as port: ...

The caller's deadline reaches the desk as the seconds that are left of it; a caller that hangs up
cancels what was begun for it. Errors carry a status, and our kind and code as trailing metadata.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeArgument=false
# pyright: reportUnknownParameterType=false, reportUntypedBaseClass=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from month3_messaging.rpc.error_codes import told
from month3_messaging.rpc.generated import inventory_pb2 as pb
from month3_messaging.rpc.generated import inventory_pb2_grpc as stubs
from month3_messaging.rpc.stock_desk import Hold, HoldLine, StockDesk
from scalelab.errors import ScalelabError

SERVICE = "scalelab.inventory.v1.Inventory"
KIND, CODE = "scalelab-kind", "scalelab-code"
_MAX_BYTES = 256 * 1024
_DRAIN_S = 5.0

_STATUS: Mapping[str, grpc.StatusCode] = {
    "invalid_input": grpc.StatusCode.INVALID_ARGUMENT,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "conflict": grpc.StatusCode.FAILED_PRECONDITION,
    "too_large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "deadline_exceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "outcome_unknown": grpc.StatusCode.UNKNOWN,
}

_log = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]


class _Inventory(stubs.InventoryServicer):
    def __init__(self, desk: StockDesk) -> None:
        self._desk = desk

    async def Hold(self, request: pb.HoldRequest, context: Context) -> pb.HoldReply:  # noqa: N802 - the contract's name
        lines = tuple(HoldLine(line.product_id, line.quantity) for line in request.lines)
        hold = Hold(request.hold_id, lines, request.ttl_s)
        try:
            taken = await self._desk.hold(hold, left_s=context.time_remaining())
        except Exception as error:  # noqa: BLE001 -- or gRPC would tell the caller what it says
            await _refuse(context, error)
        return pb.HoldReply(taken=taken)

    async def Levels(self, request: pb.LevelsRequest, context: Context) -> pb.LevelsReply:  # noqa: N802 - the contract's name
        return pb.LevelsReply(free=self._desk.levels(list(request.product_ids)))

    async def Watch(  # noqa: N802 - the contract's name
        self, request: pb.LevelsRequest, context: Context
    ) -> AsyncGenerator[pb.LevelsReply, None]:
        watching = self._desk.watch(list(request.product_ids))
        try:
            async for free in watching:
                yield pb.LevelsReply(free=free)
        except Exception as error:  # noqa: BLE001 -- or gRPC would tell the caller what it says
            await _refuse(context, error)
        finally:
            await watching.aclose()


async def _refuse(context: Context, error: Exception) -> NoReturn:
    if not isinstance(error, ScalelabError):
        _log.error("the inventory failed", exc_info=error)
    kind, code, message = told(error)
    status = _STATUS.get(kind, grpc.StatusCode.INTERNAL)
    await context.abort(status, message, ((KIND, kind), (CODE, code)))
    raise AssertionError("abort raises")


@asynccontextmanager
async def serving_grpc(
    desk: StockDesk, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[int, None]:
    """Serve until the block ends; yields the port. Then says "not serving", and lets calls end for
    5 seconds before it cuts them. Raises RuntimeError if the port is taken."""
    options = [
        ("grpc.so_reuseport", 0),  # or a second server would silently share the port
        ("grpc.max_receive_message_length", _MAX_BYTES),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=200)
    stubs.add_InventoryServicer_to_server(_Inventory(desk), server)
    probes = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(probes, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    for name in ("", SERVICE):
        await probes.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield bound
    finally:
        await probes.enter_graceful_shutdown()
        await asyncio.shield(server.stop(_DRAIN_S))
