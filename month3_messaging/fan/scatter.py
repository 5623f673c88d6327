"""Ask many at once, wait until the last answer or the deadline, tell what is missing.

The promises are F1 to F5 of gathered.py. Only what may be asked twice belongs here: a read, or a
command whose caller names it (a hold's id). A cancelled request may have taken effect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from month3_messaging.fan.gathered import Gathered, Missing, Why
from month3_messaging.fan.hedging import Hedging
from month3_messaging.rpc import told
from scalelab.clock import Clock
from scalelab.errors import InvalidInput, InvariantBroken, Retryable
from scalelab.resilience import Deadline

T = TypeVar("T")

Ask = Callable[[float], Awaitable[T]]
"""One request, given the seconds that are left for it. Cancelled, it ends soon."""


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """ask: the first place. second: another that knows the same; None is never hedged."""

    name: str
    ask: Ask[T]
    second: Ask[T] | None = None


@dataclass(frozen=True, slots=True)
class ScatterSettings:
    """part_timeout_s: for one part from its turn on; the deadline may leave less. at_once: F3."""

    part_timeout_s: float = 1.0
    at_once: int = 64

    def __post_init__(self) -> None:
        """Raises InvalidInput naming the field."""
        if not self.part_timeout_s > 0:  # refuses NaN too
            raise InvalidInput("a part needs some time", field="part_timeout_s")
        if self.at_once < 1:
            raise InvalidInput("at least one part is under way", field="at_once")


async def scatter(
    parts: Iterable[Part[T]],
    *,
    deadline: Deadline,
    clock: Clock,
    settings: ScatterSettings = ScatterSettings(),
    hedging: Hedging | None = None,
) -> Gathered[T]:
    """Ask every part once, at most `at_once` together, in their order.

    An error of a part is part of the result, whatever it is: nobody's bug takes away the others'
    answers. Raises InvalidInput for a name that comes twice. Cancelled, it cancels every request.
    """
    asked = list(parts)
    if len({part.name for part in asked}) < len(asked):
        raise InvalidInput("two parts have one name", field="parts")
    run = _Scatter(asked, deadline, clock, settings, hedging)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(settings.at_once, len(asked))):
            group.create_task(run.work())
    return Gathered(run.answers, run.missing, run.hedged, run.rescued)


class _Scatter(Generic[T]):
    """State of one scatter, shared by its workers on one loop."""

    def __init__(
        self,
        parts: list[Part[T]],
        deadline: Deadline,
        clock: Clock,
        settings: ScatterSettings,
        hedging: Hedging | None,
    ) -> None:
        self._waiting = deque(parts)
        self._deadline = deadline
        self._clock = clock
        self._settings = settings
        self._hedging = hedging
        self.answers: dict[str, T] = {}
        self.missing: dict[str, Missing] = {}
        self.hedged = 0
        self.rescued = 0

    async def work(self) -> None:
        """Take one part after the other, for as long as there are any."""
        while self._waiting:
            part = self._waiting.popleft()
            left_s = self._deadline.remaining_s(now_s=self._clock.monotonic_s())
            if left_s == 0:
                self.missing[part.name] = Missing(Why.NOT_BEGUN, "deadline_exceeded")
                continue
            limit_s = min(left_s, self._settings.part_timeout_s)
            requests: list[asyncio.Task[T]] = []
            try:
                await self._one(part, limit_s, requests)
            finally:
                await _end(requests)

    async def _one(self, part: Part[T], limit_s: float, requests: list[asyncio.Task[T]]) -> None:
        """Until one request has answered, none can any more, or the time is over."""
        begun_s = self._clock.monotonic_s()
        second_at_s = self._second_at_s(part)
        requests.append(_request(part.ask, limit_s))
        spent_s = 0.0
        while True:
            until_s = limit_s if second_at_s is None else min(limit_s, second_at_s)
            under_way = [request for request in requests if not request.done()]
            await asyncio.wait(
                under_way,
                timeout=max(0.0, until_s - spent_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
            spent_s = self._clock.monotonic_s() - begun_s
            failed = [request for request in requests if request.done()]
            for request in failed:
                if request.exception() is None:
                    self._answered(part, request.result(), spent_s)
                    self.rescued += request is not requests[0]
                    return
            if spent_s >= limit_s:
                self.missing[part.name] = Missing(Why.LATE, "part_late")
                self._note_wait(spent_s)
                return
            if second_at_s is not None and (spent_s >= second_at_s or _worth_another(failed)):
                second_at_s = None
                if self._may_hedge():
                    requests.append(_request(part.second or part.ask, limit_s - spent_s))
                    continue
            if len(failed) == len(requests):
                self._failed(part, failed[-1].exception())
                return

    def _second_at_s(self, part: Part[T]) -> float | None:
        """Seconds after which a second request goes out; None: never."""
        if self._hedging is None:
            return None
        self._hedging.begun()
        return None if part.second is None else self._hedging.delay_s

    def _may_hedge(self) -> bool:
        granted = self._hedging is not None and self._hedging.take()
        self.hedged += granted
        return granted

    def _answered(self, part: Part[T], answer: T, spent_s: float) -> None:
        self.answers[part.name] = answer
        self._note_wait(spent_s)  # of a first request that lost: a lower bound

    def _failed(self, part: Part[T], error: BaseException | None) -> None:
        if not isinstance(error, Exception):
            raise InvariantBroken("a request ended without an answer and without an error")
        _, code, _ = told(error)
        self.missing[part.name] = Missing(Why.FAILED, code, error)

    def _note_wait(self, spent_s: float) -> None:
        if self._hedging is not None:
            self._hedging.waited(spent_s)


def _worth_another(failed: Iterable[asyncio.Task[T]]) -> bool:
    """Whether a request failed in a way that another place may not."""
    return any(isinstance(request.exception(), Retryable) for request in failed)


def _request(ask: Ask[T], limit_s: float) -> asyncio.Task[T]:
    async def asked() -> T:
        return await ask(limit_s)

    return asyncio.create_task(asked())


async def _end(requests: list[asyncio.Task[T]]) -> None:
    """Cancel those that are under way and wait until they are gone."""
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
