"""What gRPC brings by itself: cancellation, streams, health, reflection, retries."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import asyncio
from contextlib import aclosing

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from month3_messaging.rpc import Hold, HoldLine, StockDesk
from month3_messaging.rpc.grpc_client import GrpcStock
from month3_messaging.rpc.grpc_door import SERVICE, serving_grpc
from scalelab.clock import ManualClock
from scalelab.errors import NotFound, OutcomeUnknown, Unavailable

pytestmark = pytest.mark.anyio
LONG_S = 30.0


def hold_of(quantity: int, hold_id: str = "h1") -> Hold:
    """Pens, for a minute."""
    return Hold(hold_id, (HoldLine("pen", quantity),), 60.0)


class NeverApproved:
    """An approval that does not come; it tells whether it was asked for, and given up."""

    def __init__(self) -> None:
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def __call__(self, _hold: Hold, _left_s: float | None) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def test_who_hangs_up_has_taken_nothing() -> None:
    """I3: the call is cancelled at the desk, while it waits for its approval."""
    approval = NeverApproved()
    desk = StockDesk({"pen": 10}, ManualClock(), approval=approval)
    async with serving_grpc(desk) as port, GrpcStock(f"127.0.0.1:{port}") as stock:
        call = asyncio.create_task(stock.hold(hold_of(3), timeout_s=LONG_S))
        async with asyncio.timeout(LONG_S):
            await approval.begun.wait()
            call.cancel()
            await approval.cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert desk.levels(["pen"]) == {"pen": 10}


async def test_a_deadline_that_passes_cancels_at_the_desk_too() -> None:
    """Nobody works for a caller that has left."""
    approval = NeverApproved()
    desk = StockDesk({"pen": 10}, ManualClock(), approval=approval)
    async with serving_grpc(desk) as port, GrpcStock(f"127.0.0.1:{port}") as stock:
        async with asyncio.timeout(LONG_S):
            # A deadline may pass before the call has arrived.
            while not approval.cancelled.is_set():
                with pytest.raises(OutcomeUnknown):
                    await stock.hold(hold_of(3), timeout_s=0.5)
                await asyncio.sleep(0)
    assert desk.levels(["pen"]) == {"pen": 10}


async def test_a_stream_tells_every_last_level() -> None:
    """Now, and after a change; and a reader that stops is forgotten by the desk."""
    desk = StockDesk({"pen": 10}, ManualClock())
    async with serving_grpc(desk) as port, GrpcStock(f"127.0.0.1:{port}") as stock:
        async with asyncio.timeout(LONG_S), aclosing(stock.watch(["pen"])) as watching:
            assert await anext(watching) == {"pen": 10}
            await desk.hold(hold_of(4))
            assert await anext(watching) == {"pen": 6}
        async with asyncio.timeout(LONG_S):
            while desk.watchers:  # noqa: ASYNC110 -- the desk is asked, it does not tell
                await asyncio.sleep(0.01)


async def test_an_unknown_product_is_not_watched() -> None:
    """With the code that every other call has for it."""
    desk = StockDesk({"pen": 10}, ManualClock())
    async with serving_grpc(desk) as port, GrpcStock(f"127.0.0.1:{port}") as stock:
        with pytest.raises(NotFound) as refused:
            async with aclosing(stock.watch(["pencil"], timeout_s=LONG_S)) as watching:
                await anext(watching)
    assert refused.value.stable_code == "unknown_product"


async def test_what_is_unavailable_is_tried_again_by_the_channel() -> None:
    """Twice refused by the desk, once served: one call of ours, three of the channel's."""
    asked: list[str] = []

    async def third_time(hold: Hold, _left_s: float | None) -> None:
        asked.append(hold.hold_id)
        if len(asked) < 3:
            raise Unavailable("not yet")

    desk = StockDesk({"pen": 10}, ManualClock(), approval=third_time)
    async with serving_grpc(desk) as port, GrpcStock(f"127.0.0.1:{port}", attempts=4) as stock:
        assert await stock.hold(hold_of(3), timeout_s=LONG_S)
    assert asked == ["h1"] * 3


async def test_a_conflict_is_not_tried_again() -> None:
    """It would be one again."""
    asked: list[str] = []

    async def note(hold: Hold, _left_s: float | None) -> None:
        asked.append(hold.hold_id)

    desk = StockDesk({"pen": 1}, ManualClock(), approval=note)
    async with serving_grpc(desk) as port, GrpcStock(f"127.0.0.1:{port}", attempts=4) as stock:
        with pytest.raises(Exception, match="not enough stock"):
            await stock.hold(hold_of(3), timeout_s=LONG_S)
    assert asked == ["h1"]


async def test_health_and_reflection_answer_without_our_files() -> None:
    """What a balancer and a person with grpcurl ask."""
    desk = StockDesk({}, ManualClock())
    async with (
        serving_grpc(desk) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        probe = health_pb2.HealthCheckRequest(service=SERVICE)
        health = await health_pb2_grpc.HealthStub(channel).Check(probe, timeout=LONG_S)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = [one async for one in stub.ServerReflectionInfo(iter([ask]), timeout=LONG_S)]
        names = {one.name for one in answers[0].list_services_response.service}
    assert SERVICE in names
