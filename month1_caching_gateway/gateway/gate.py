"""Load shedding in front of one upstream: an adaptive limit, and a short wait for a seat.

What may begin is decided by scalelab.resilience.adaptive_limit, who waits by .waiting_room. Here is
only what holds the two together on the event loop. A seat is kept from before the request is sent
to the end of its exchange; the latency that teaches the limit ends with the head of the answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from scalelab.clock import Clock
from scalelab.errors import Overloaded
from scalelab.resilience.adaptive_limit import LimitPolicy, new_limit, sample
from scalelab.resilience.waiting_room import Priority, RoomPolicy, WaitingRoom

_RETRY_AFTER_S = 1.0

PRIORITIES = {one.name.lower(): one for one in Priority}
"""As routes name them."""


@dataclass(frozen=True, slots=True)
class Shed:
    """An upstream that sheds load. limit: calls at once. room: who waits for how long."""

    limit: LimitPolicy = field(default_factory=LimitPolicy)
    room: RoomPolicy = field(default_factory=RoomPolicy)


class Gate:
    """For one event loop. tell: hears of each request that was shed."""

    def __init__(self, shed: Shed, clock: Clock) -> None:
        now_s = clock.monotonic_s()
        self._shed = shed
        self._clock = clock
        self._limit = new_limit(shed.limit, now_s=now_s)
        self._room: WaitingRoom[Turn] = WaitingRoom(shed.room, now_s=now_s)
        self.in_flight = 0
        self.shed = 0

    @property
    def limit(self) -> float:
        """Calls at once that are believed to do no harm."""
        return self._limit.calls

    @property
    def waiting(self) -> int:
        """Callers in the room."""
        return len(self._room)

    def enter(self, priority: Priority) -> Seat | Turn:
        """A seat, or a turn to wait for. Raises Overloaded; nothing was begun then."""
        if not len(self._room) and self._limit.allows(self.in_flight):
            self.in_flight += 1
            return Seat(self)
        turn = Turn()
        may_wait, away = self._room.come_in(turn, priority, now_s=self._clock.monotonic_s())
        self._send_away(away)
        if not may_wait:
            self.shed += 1
            raise _overloaded()
        return turn

    async def wait(self, turn: Turn) -> Seat:
        """Raises Overloaded if the turn did not come in time."""
        try:
            async with asyncio.timeout(self._shed.room.patience_s):
                await turn.came
        except TimeoutError as error:
            self.forsake(turn)
            self.shed += 1
            raise _overloaded() from error
        except BaseException:
            self.forsake(turn)
            raise
        turn.over = True
        return Seat(self)

    def forsake(self, turn: Turn) -> None:
        """Nobody waits for it any more; a seat that came at the same moment is passed on."""
        if turn.over:
            return
        turn.over = True
        if not self._room.leave(turn) and turn.granted:
            self.in_flight -= 1
            self._let_in()

    def left(self, latency_s: float | None, *, dropped: bool) -> None:
        """A seat is free again. latency_s: None if there was no answer; it then says nothing."""
        if latency_s is not None or dropped:
            self._limit = sample(
                self._limit,
                self._shed.limit,
                latency_s=None if dropped else latency_s,
                in_flight=self.in_flight,
                now_s=self._clock.monotonic_s(),
            )
        self.in_flight -= 1
        self._let_in()

    def _let_in(self) -> None:
        while len(self._room) and self._limit.allows(self.in_flight):
            turn, away = self._room.next(now_s=self._clock.monotonic_s())
            self._send_away(away)
            if turn is not None and not turn.came.done():
                self.in_flight += 1
                turn.granted = True
                turn.came.set_result(None)

    def _send_away(self, turns: list[Turn]) -> None:
        for turn in turns:
            if not turn.came.done():
                self.shed += 1
                turn.came.set_exception(_overloaded())
                turn.came.exception()  # noted, should nobody be left to hear it


class Turn:
    """A caller in the room. came: ends when it is let in, or with Overloaded."""

    __slots__ = ("came", "granted", "over")

    def __init__(self) -> None:
        self.came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.granted = False
        self.over = False


class Seat:
    """Held by one exchange; to be given back exactly once."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def leave(self, latency_s: float | None, *, dropped: bool) -> None:
        """The exchange has ended. latency_s: to the head of the answer; None if none was asked."""
        self._gate.left(latency_s, dropped=dropped)


def _overloaded() -> Overloaded:
    return Overloaded("more is asked than this service can answer", retry_after_s=_RETRY_AFTER_S)
