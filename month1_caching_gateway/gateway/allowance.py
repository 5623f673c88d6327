"""One request's part of an allowance: what was decided, or what is still to be heard.

The RateLimit headers say what the caller has left under the policy that counted it; for window
algorithms `RateLimit-Reset` is an upper estimate. A refusal carries `Retry-After` as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from month1_caching_gateway.gateway.problems import Header, Refused, refused_by, whole_seconds
from month1_caching_gateway.ratelimit import (
    Answer,
    Decision,
    Hold,
    LeasePolicy,
    Policy,
    RateCheck,
    full_after_s,
)
from scalelab.errors import ScalelabError


@dataclass(frozen=True, slots=True)
class Admitted:
    """subject: of the verified caller, "" for an anonymous one. headers: for the answer.

    key_id: of the API key, "" without one. held: a slot, to be released when the request has ended.
    """

    subject: str
    headers: tuple[Header, ...]
    key_id: str = ""
    held: Hold | None = None


ADMITTED_NOBODY = Admitted("", ())


class Waiting:
    """A decision that the limiter's store has yet to send. answer: ends by the store's deadline."""

    answer: asyncio.Future[Decision]

    def settle(self) -> Admitted:
        """Once `answer` is done. Raises Refused."""
        raise NotImplementedError

    def leave(self) -> None:
        """Nobody waits any more: give back what may be taken."""
        raise NotImplementedError

    def tell(
        self,
        admitted: Callable[[Admitted], None],
        refused: Callable[[Refused], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Call one of the three once the store has answered, or its deadline has passed."""

        def heard(_answer: asyncio.Future[Decision]) -> None:
            try:
                admitted(self.settle())
            except Refused as error:
                refused(error)
            except Exception as error:  # noqa: BLE001 - a bug of ours; the caller must hear of it
                failed(error)

        self.answer.add_done_callback(heard)


class _Limiter(Protocol):
    def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> Answer: ...

    def settle(
        self, answer: asyncio.Future[Decision], key: str, policy: Policy, *, cost: float = 1.0
    ) -> Decision: ...


def first_take(who: Admitted, limiter: _Limiter, check: RateCheck) -> Admitted | Waiting:
    """Ask for tokens. Raises Refused (429), and what the limiter raises."""
    answer = limiter.ask(check.key, check.policy, cost=check.cost)
    if isinstance(answer, Decision):
        return _taken(who, check.policy, answer)
    return _Take(who, limiter, check, answer)


def first_hold(who: Admitted, hold: Hold, policy: LeasePolicy) -> Admitted | Waiting:
    """Ask for a slot. Raises Refused (429)."""
    if isinstance(hold.answer, Decision):
        return _held(who, policy, hold, hold.answer)
    return _Held(who, policy, hold, hold.answer)


@dataclass
class _Take(Waiting):
    who: Admitted
    limiter: _Limiter
    check: RateCheck
    answer: asyncio.Future[Decision]

    def settle(self) -> Admitted:
        check = self.check
        try:
            decision = self.limiter.settle(self.answer, check.key, check.policy, cost=check.cost)
        except ScalelabError as error:
            raise refused_by(error) from error
        return _taken(self.who, check.policy, decision)

    def leave(self) -> None:
        self.answer.cancel()


@dataclass
class _Held(Waiting):
    who: Admitted
    policy: LeasePolicy
    hold: Hold
    answer: asyncio.Future[Decision]

    def settle(self) -> Admitted:
        try:
            decision = self.hold.settle()
        except ScalelabError as error:
            raise refused_by(error) from error
        return _held(self.who, self.policy, self.hold, decision)

    def leave(self) -> None:
        self.hold.release()


def _taken(who: Admitted, policy: Policy, decision: Decision) -> Admitted:
    reset_s = whole_seconds(full_after_s(decision.remaining, policy))
    headers: tuple[Header, ...] = (
        (b"RateLimit-Limit", b"%d" % policy.capacity),
        (b"RateLimit-Remaining", b"%d" % decision.remaining),
        (b"RateLimit-Reset", b"%d" % reset_s),
    )
    if decision.admitted:
        return Admitted(who.subject, headers, who.key_id)
    raise Refused(
        429,
        "rate_limited",
        "this caller's allowance is used up for now",
        headers=headers,
        retry_after_s=decision.retry_after_s,
    )


def _held(who: Admitted, policy: LeasePolicy, hold: Hold, decision: Decision) -> Admitted:
    headers: tuple[Header, ...] = (
        (b"RateLimit-Limit", b"%d" % policy.slots),
        (b"RateLimit-Remaining", b"%d" % decision.remaining),
    )
    if decision.admitted:
        return Admitted(who.subject, headers, who.key_id, hold)
    # The first lease ends then at the latest; slots come back as soon as requests do.
    raise Refused(
        429,
        "concurrency_limit",
        "this caller has as many requests under way as it may",
        headers=headers,
        retry_after_s=min(1.0, decision.retry_after_s),
    )
