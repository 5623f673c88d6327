"""One suite for all three doors: what a caller may rely on, whatever the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from month3_messaging.experiments.rest_serving import serving_rest
from month3_messaging.rpc import Hold, HoldLine, RestStock, StockCalls, StockDesk
from month3_messaging.rpc.grpc_client import GrpcStock
from month3_messaging.rpc.grpc_door import serving_grpc
from month3_messaging.rpc.thrift_client import ThriftStock
from month3_messaging.rpc.thrift_door import serving_thrift
from scalelab.clients.http import HttpClient
from scalelab.clock import ManualClock
from scalelab.errors import Conflict, InvalidInput, NotFound, Retryable, ScalelabError

pytestmark = pytest.mark.anyio
LONG_S = 30.0


@asynccontextmanager
async def door(protocol: str, desk: StockDesk) -> AsyncGenerator[StockCalls, None]:
    """The desk behind one of the doors, and a client of it."""
    async with AsyncExitStack() as stack:
        if protocol == "rest":
            port = await stack.enter_async_context(serving_rest(desk))
            http = HttpClient(f"http://127.0.0.1:{port}", connect_timeout_s=LONG_S)
            yield RestStock(await stack.enter_async_context(http))
        elif protocol == "grpc":
            port = await stack.enter_async_context(serving_grpc(desk))
            yield await stack.enter_async_context(GrpcStock(f"127.0.0.1:{port}"))
        else:
            port = await stack.enter_async_context(serving_thrift(desk))
            yield await stack.enter_async_context(ThriftStock("127.0.0.1", port))


@pytest.fixture(params=["rest", "grpc", "thrift"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Each of them."""
    return request.param


def hold_of(quantity: int, product: str = "pen", *, hold_id: str = "h1") -> Hold:
    """One line, for a minute."""
    return Hold(hold_id, (HoldLine(product, quantity),), 60.0)


async def refusal(calls: StockCalls, hold: Hold) -> ScalelabError:
    """What the hold was refused with."""
    with pytest.raises(ScalelabError) as refused:
        await calls.hold(hold, timeout_s=LONG_S)
    return refused.value


async def test_a_hold_takes_all_its_lines(protocol: str) -> None:
    """And the free pieces say so."""
    desk = StockDesk({"pen": 10, "ink": 5}, ManualClock())
    async with door(protocol, desk) as calls:
        lines = (HoldLine("pen", 3), HoldLine("ink", 5))
        assert await calls.hold(Hold("h1", lines, 60.0), timeout_s=LONG_S)
        levels = await calls.levels(["pen", "ink", "unknown"], timeout_s=LONG_S)
    assert levels == {"pen": 7, "ink": 0}


async def test_asked_again_it_takes_nothing_more(protocol: str) -> None:
    """I2: a repeat is told that the hold stood."""
    desk = StockDesk({"pen": 10}, ManualClock())
    async with door(protocol, desk) as calls:
        answers = [await calls.hold(hold_of(3), timeout_s=LONG_S) for _ in range(3)]
    assert (answers, desk.levels(["pen"])) == ([True, False, False], {"pen": 7})


async def test_too_much_is_a_conflict_that_takes_nothing(protocol: str) -> None:
    """I2: the line that would fit is not taken either."""
    desk = StockDesk({"pen": 1, "ink": 5}, ManualClock())
    async with door(protocol, desk) as calls:
        lines = (HoldLine("ink", 1), HoldLine("pen", 2))
        error = await refusal(calls, Hold("h1", lines, 60.0))
    assert isinstance(error, Conflict)
    assert error.stable_code == "out_of_stock"
    assert desk.levels(["pen", "ink"]) == {"pen": 1, "ink": 5}


async def test_the_same_id_for_other_lines_is_a_conflict(protocol: str) -> None:
    """Nobody gets a hold that is somebody else's."""
    async with door(protocol, StockDesk({"pen": 10}, ManualClock())) as calls:
        await calls.hold(hold_of(3), timeout_s=LONG_S)
        error = await refusal(calls, hold_of(4))
    assert (type(error), error.stable_code) == (Conflict, "hold_differs")


async def test_an_unknown_product_has_its_code(protocol: str) -> None:
    """Class and code are those that the desk raised."""
    async with door(protocol, StockDesk({"pen": 10}, ManualClock())) as calls:
        error = await refusal(calls, hold_of(1, "pencil"))
    assert (type(error), error.stable_code) == (NotFound, "unknown_product")


@pytest.mark.parametrize(
    "hold",
    [
        hold_of(0),
        hold_of(-5),
        Hold("h1", (), 60.0),
        Hold("h1", (HoldLine("pen", 1),), -1.0),
        Hold("h1", (HoldLine("pen", 1), HoldLine("pen", 1)), 60.0),
        hold_of(1, hold_id="x" * 65),
    ],
    ids=["nothing", "negative", "no lines", "no time", "a product twice", "long id"],
)
async def test_bad_input_is_refused_and_changes_nothing(protocol: str, hold: Hold) -> None:
    """As invalid input, by every door."""
    desk = StockDesk({"pen": 10}, ManualClock())
    async with door(protocol, desk) as calls:
        error = await refusal(calls, hold)
    assert isinstance(error, InvalidInput)
    assert desk.levels(["pen"]) == {"pen": 10}


async def test_a_failure_inside_tells_nothing_of_itself(protocol: str) -> None:
    """What went wrong is not the caller's to read, and the outcome is unknown."""

    async def breaks(_hold: Hold, _left_s: float | None) -> None:
        raise ZeroDivisionError("secret of the house")

    desk = StockDesk({"pen": 10}, ManualClock(), approval=breaks)
    async with door(protocol, desk) as calls:
        error = await refusal(calls, hold_of(1))
        assert "secret" not in str(error)
        assert error.stable_code in ("outcome_unknown", "internal")
        assert await calls.levels(["pen"], timeout_s=LONG_S) == {"pen": 10}


async def test_the_desk_hears_how_long_its_caller_will_wait(protocol: str) -> None:
    """Not more than the caller gave, and something of it."""
    heard: list[float | None] = []

    async def note(_hold: Hold, left_s: float | None) -> None:
        heard.append(left_s)

    async with door(protocol, StockDesk({"pen": 10}, ManualClock(), approval=note)) as calls:
        await calls.hold(hold_of(1), timeout_s=LONG_S)
    assert len(heard) == 1
    assert heard[0] is not None
    assert 0 < heard[0] <= LONG_S


async def test_no_answer_in_time_is_an_unknown_outcome_and_a_repeat_is_safe(protocol: str) -> None:
    """The approval takes for ever the first time; asked again, exactly one hold is taken."""
    go_on = asyncio.Event()

    async def wait(_hold: Hold, _left_s: float | None) -> None:
        await go_on.wait()

    desk = StockDesk({"pen": 10}, ManualClock(), approval=wait)
    async with door(protocol, desk) as calls:
        with pytest.raises(Retryable):
            await calls.hold(hold_of(3), timeout_s=0.5)
        go_on.set()
        await calls.hold(hold_of(3), timeout_s=LONG_S)
        assert await calls.levels(["pen"], timeout_s=LONG_S) == {"pen": 7}


async def test_twenty_at_once_share_what_there_is(protocol: str) -> None:
    """I1: ten pieces, twenty callers, ten holds."""
    desk = StockDesk({"pen": 10}, ManualClock())
    async with door(protocol, desk) as calls:
        answers = await asyncio.gather(
            *(calls.hold(hold_of(1, hold_id=f"h{n}"), timeout_s=LONG_S) for n in range(20)),
            return_exceptions=True,
        )
    assert answers.count(True) == 10
    assert sum(isinstance(answer, Conflict) for answer in answers) == 10
    assert desk.levels(["pen"]) == {"pen": 0}


async def test_a_door_that_is_closed_is_worth_another_try(protocol: str) -> None:
    """A retryable error, whatever the library said."""
    gone: StockCalls
    async with AsyncExitStack() as stack:
        if protocol == "rest":
            http = HttpClient("http://127.0.0.1:9", connect_timeout_s=LONG_S)
            gone = RestStock(await stack.enter_async_context(http))
        elif protocol == "grpc":
            gone = await stack.enter_async_context(GrpcStock("127.0.0.1:9"))
        else:
            gone = await stack.enter_async_context(ThriftStock("127.0.0.1", 9))
        with pytest.raises(Retryable):
            await gone.hold(hold_of(1), timeout_s=LONG_S)
