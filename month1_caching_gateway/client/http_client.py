"""Calls of one HTTP service: deadline, retries within a budget, a patient breaker, a fallback.

    deadline            one instant for the whole call, waits included
      breaker → send    refused before it is sent, or tried
      retry             what may be repeated, not before the service asked, while the budget lasts
    fallback            when the service failed or sent us away, never when it said no

What may be repeated: any method after an answer that says "nothing was done" (429, 503); after
silence only what does no harm twice (GET, HEAD, PUT, DELETE, or with an Idempotency-Key). A call of
which any try may have landed never ends in an error that claims nothing was changed.

Beside `scalelab.resilience.Guard`: a guard treats 429 as an answer to one of its callers. This
client is one caller, so for it 429 is a reason to stop, for all its calls.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from month1_caching_gateway.client.patient_breaker import Breaker, Reply, ask, told
from month1_caching_gateway.client.retry_after import asked_wait_s
from scalelab.clients.http import Answer, HttpClient
from scalelab.clients.problems import error_for_answer
from scalelab.clock import Clock, SystemClock
from scalelab.errors import (
    BreakerOpen,
    OutcomeUnknown,
    Overloaded,
    Retryable,
    ScalelabError,
    Unavailable,
)
from scalelab.resilience import (
    BreakerChanged,
    BreakerPolicy,
    CallEnded,
    CallFellBack,
    CallRetried,
    Deadline,
    GuardEvent,
    Hook,
    Phase,
    RetryPolicy,
    RetryRefused,
)
from scalelab.resilience.circuit_breaker import Outcome
from scalelab.resilience.retry import RetryBudget, may_repeat, wait_s

Fallback = Callable[[ScalelabError], Awaitable[Answer]]
"""Gets the error that ended the call; returns a substitute or raises."""

_SAFE = frozenset({"GET", "HEAD"})
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_EVERY_STATUS = frozenset(range(300, 600))
_STATEMENTS = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Times in seconds. deadline_s: of a whole call. try_s: of one try, connect_s: of its connect.
    obey_at_most_s: the longest that a Retry-After is believed. breaker: None for none; retry:
    attempts 1 for none."""

    deadline_s: float = 5.0
    try_s: float = 2.0
    obey_at_most_s: float = 60.0
    breaker: BreakerPolicy | None = field(default_factory=lambda: BreakerPolicy(probes=1))
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_connections: int = 64
    connect_s: float = 0.5


class Client:
    """A client of the service at `base_url`; an async context manager. One per service.

    hooks hear what guards tell (scalelab.resilience.GuardMetrics counts it) under the name `name`.
    sleep, random_unit: replaced in tests.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        settings: ClientSettings | None = None,
        *,
        hooks: Sequence[Hook] = (),
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random_unit: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._settings = settings or ClientSettings()
        self._http = HttpClient(
            base_url,
            timeout_s=self._settings.try_s,
            connect_timeout_s=self._settings.connect_s,
            max_connections=self._settings.max_connections,
        )
        self._breaker = Breaker()
        self._budget = RetryBudget(self._settings.retry.budget)
        self._hooks = tuple(hooks)
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._random_unit = random_unit

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.__aexit__(*exc)

    @property
    def phase(self) -> Phase:
        """The breaker's phase as of the last call."""
        return self._breaker.phase

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        fallback: Fallback | None = None,
        deadline_s: float | None = None,
        **body: Any,
    ) -> Answer:
        """The answer, when its status is 2xx or 304. body: `params`, `json_body` or `form`.

        Raises the class of the service's problem; Unavailable, RateLimited and BreakerOpen (nothing
        was done), OutcomeUnknown. A `fallback` answers in place of the last four.
        """
        started_s = self._clock.monotonic_s()
        call = _Call(method, path, headers or {}, body)
        limit = Deadline.after(deadline_s or self._settings.deadline_s, now_s=started_s)
        result = "cancelled"
        try:
            answer = await self._tries(call, limit)
            result = "ok"
            return answer
        except ScalelabError as error:
            result = error.stable_code
            if fallback is None or not _sent_away(error):
                raise
            self._tell(CallFellBack(self.name, result))
            return await fallback(error)
        finally:
            elapsed_s = self._clock.monotonic_s() - started_s
            self._tell(CallEnded(self.name, result, call.tries, elapsed_s))

    async def _tries(self, call: _Call, limit: Deadline) -> Answer:
        self._budget.on_call()
        while True:
            try:
                return await self._try(call, limit)
            except ScalelabError as error:
                call.may_have_landed |= isinstance(error, OutcomeUnknown)
                delay_s = self._delay_before_retry(error, call, limit)
                if delay_s is None:
                    raise self._honest(error, call) from error
                self._tell(CallRetried(self.name, call.tries, delay_s, error.stable_code))
            await self._sleep(delay_s)

    def _honest(self, error: ScalelabError, call: _Call) -> ScalelabError:
        if not call.may_have_landed or not error.retryable or isinstance(error, OutcomeUnknown):
            return error
        return OutcomeUnknown(f"{self.name}: a try got no answer, then: {error.message}")

    def _delay_before_retry(
        self, error: ScalelabError, call: _Call, limit: Deadline
    ) -> float | None:
        retry = self._settings.retry
        if call.tries >= retry.attempts or not may_repeat(error, idempotent=call.is_idempotent):
            return None
        delay_s = wait_s(error, retry, retry=call.tries, random_unit=self._random_unit())
        if not limit.leaves_room_for(delay_s, now_s=self._clock.monotonic_s()):
            return None
        if not self._budget.grants_retry():
            self._tell(RetryRefused(self.name, error.stable_code))
            return None
        return delay_s

    async def _try(self, call: _Call, limit: Deadline) -> Answer:
        limit.check(self.name, now_s=self._clock.monotonic_s())
        generation = self._ask()
        call.tries += 1
        reply = Reply(Outcome.NEUTRAL)
        try:
            left_s = limit.remaining_s(now_s=self._clock.monotonic_s())
            answer = await self._http.request(
                call.method,
                call.path,
                headers=call.headers,
                timeout_s=min(left_s, self._settings.try_s),
                accept=_EVERY_STATUS,
                **call.body,
            )
            reply = self._judge(answer)
        except ScalelabError:
            reply = Reply(Outcome.FAILURE)
            raise
        finally:
            self._told(generation, reply)
        if answer.status < 300 or answer.status == 304:
            return answer
        raise self._error(answer, call, reply)

    def _judge(self, answer: Answer) -> Reply:
        if answer.status in _STATEMENTS:
            asked_s = asked_wait_s(
                answer.headers, now=self._clock.now(), at_most_s=self._settings.obey_at_most_s
            )
            return Reply(Outcome.FAILURE, asked_s)
        return Reply(Outcome.FAILURE if answer.status >= 500 else Outcome.SUCCESS)

    def _error(self, answer: Answer, call: _Call, reply: Reply) -> ScalelabError:
        error = error_for_answer(
            answer.status, answer.headers, answer.body, safe=call.method in _SAFE
        )
        if reply.wait_s is not None and isinstance(error, Retryable):
            error.retry_after_s = reply.wait_s
        return error

    def _ask(self) -> int:
        policy = self._settings.breaker
        if policy is None:
            return 0
        before = self._breaker.phase
        self._breaker, admission = ask(self._breaker, policy, now_s=self._clock.monotonic_s())
        self._tell_phase(before)
        if not admission.admitted:
            raise BreakerOpen(
                f"{self.name} is left alone, not called", retry_after_s=admission.retry_after_s
            )
        return admission.generation

    def _told(self, generation: int, reply: Reply) -> None:
        policy = self._settings.breaker
        if policy is None:
            return
        before, now_s = self._breaker.phase, self._clock.monotonic_s()
        self._breaker = told(self._breaker, policy, generation, reply, now_s=now_s)
        self._tell_phase(before)

    def _tell_phase(self, before: Phase) -> None:
        if self._breaker.phase is not before:
            self._tell(BreakerChanged(self.name, before, self._breaker.phase))

    def _tell(self, event: GuardEvent) -> None:
        for hook in self._hooks:
            hook(event)


@dataclass(slots=True)
class _Call:
    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    tries: int = 0
    may_have_landed: bool = False

    @property
    def is_idempotent(self) -> bool:
        keyed = any(name.lower() == "idempotency-key" for name in self.headers)
        return keyed or self.method in _IDEMPOTENT


def _sent_away(error: ScalelabError) -> bool:
    """Whether the service failed or sent us away, rather than that it answered "no"."""
    return isinstance(error, (Unavailable, OutcomeUnknown, Overloaded))
