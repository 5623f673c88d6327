"""How one request gets onto a connection: the breaker's leave, an endpoint, further tries.

Theory of operation
    The first try goes to the endpoint that the upstream's policy picks, on an idle connection if
    there is one: no task, no memory of it beyond a few fields. When a try fails and nothing of an
    answer has reached the client, `again` decides whether there is another one:

    lost idle   a reused connection ended before any byte of an answer: most likely it was being
                closed while we wrote. Once a request, on a new connection; it costs no budget.
    failed      the connection broke, the answer was unreadable, a 502, 503 or 504, or silent for
                `per_try_s`. At an available endpoint that was not tried yet, at most
                `retries.limit` times, and only while the upstream's budget allows it.

    Either way only what may be carried out twice: an idempotent method, or a request that carries
    an Idempotency-Key; and only a request that is held whole, for a streamed body is gone.
    The route's time-out is over all tries together.

    For safe methods of an upstream that hedges, a timer may send a second copy; see
    second_copy.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Protocol

from month1_caching_gateway.gateway.account import Account
from month1_caching_gateway.gateway.gate import PRIORITIES, Gate, Turn
from month1_caching_gateway.gateway.heads import Framing, RequestHead, ResponseHead
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Refused, refused_by
from month1_caching_gateway.gateway.routes import Route
from month1_caching_gateway.gateway.second_copy import SecondCopy
from month1_caching_gateway.gateway.upstream_breaker import Permit, health_of
from month1_caching_gateway.gateway.upstream_connection import (
    AnswerSink,
    Origin,
    UpstreamConnection,
)
from month1_caching_gateway.gateway.upstream_endpoint import UpstreamEndpoint
from month1_caching_gateway.gateway.upstream_group import UpstreamGroup
from scalelab.errors import ScalelabError

_IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))
_NEVER_S = float("inf")

Spawn = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]


class Sender(AnswerSink, Protocol):
    """Who wants to send: the exchange."""

    def on_connection(self, connection: UpstreamConnection) -> None:
        """Here is a connection: send."""
        ...

    def on_unsent(self, refused: Refused) -> None:
        """There will be none; nothing was sent this time."""
        ...

    def on_again(self) -> None:
        """What was sent came to nothing; another try begins."""
        ...

    def on_copy(self, connection: UpstreamConnection) -> None:
        """A second copy's connection takes the place of the present one, which is dropped."""
        ...

    def request_for(self, authority: bytes) -> bytes:
        """The whole request, for the endpoint of that name."""
        ...


class Sending:
    """The way of one exchange to its service. It counts the attempts in the exchange's account."""

    __slots__ = (
        "_account",
        "_copy",
        "_expecting",
        "_give_up_s",
        "_group",
        "_key",
        "_may_repeat",
        "_origin",
        "_permit",
        "_plane",
        "_replaced_idle",
        "_retries",
        "_sender",
        "_sent_s",
        "_spawn",
        "_task",
        "_tried",
        "_turn",
    )

    def __init__(self, plane: Plane, sender: Sender, account: Account, spawn: Spawn) -> None:
        self._plane = plane
        self._sender = sender
        self._account = account
        self._spawn = spawn
        self._group: UpstreamGroup | None = None
        self._permit: Permit | None = None
        self._task: asyncio.Task[None] | None = None
        self._expecting: UpstreamEndpoint | None = None
        self._copy: SecondCopy | None = None
        self._turn: Turn | None = None
        self._origin: Origin | None = None
        self._tried: tuple[Origin, ...] = ()
        self._key = ""
        self._may_repeat = False
        self._replaced_idle = False
        self._retries = 0
        self._sent_s = 0.0
        self._give_up_s = _NEVER_S

    def open(self, route: Route, *, held: bool) -> None:
        """Find a connection for the first try: at once if one is idle.

        held: the whole request is at hand and can be sent again.
        """
        group = self._group = self._account.in_force.groups[self._account.choose_upstream(route)]
        gate = group.gate
        if gate is None:
            self._open(group, held=held)
            return
        try:
            entered = gate.enter(PRIORITIES[route.priority])
        except ScalelabError as error:
            self._sender.on_unsent(refused_by(error))
            return
        if isinstance(entered, Turn):
            self._turn = entered
            self._task = self._spawn(self._open_in_turn(group, gate, entered, held=held))
            return
        self._account.seat = entered
        self._open(group, held=held)

    async def _open_in_turn(
        self, group: UpstreamGroup, gate: Gate, turn: Turn, *, held: bool
    ) -> None:
        try:
            self._account.seat = await gate.wait(turn)
        except ScalelabError as error:
            self._sender.on_unsent(refused_by(error))
            return
        self._turn = None
        self._open(group, held=held)

    def _open(self, group: UpstreamGroup, *, held: bool) -> None:
        account = self._account
        try:
            self._permit = group.admit()
        except ScalelabError as error:
            self._sender.on_unsent(refused_by(error))
            return
        self._may_repeat = held and may_be_repeated(account.head)
        if group.by_key:
            self._key = key_of(account, group.upstream.hash_on)
        endpoint = group.choose(self._key)
        connection = endpoint.pool.take_idle()
        if connection is not None:
            self._hand_over(group, connection)
        else:
            self._begin(group, endpoint, fresh=False)
        if group.hedge_delay_s is not None and held:
            self._hedge(group, account.head, group.hedge_delay_s)

    def answer_by_s(self, timeout_s: float) -> float:
        """When the present try is late. The first call fixes the end of all tries together."""
        now_s = self._plane.clock.monotonic_s()
        if self._give_up_s == _NEVER_S:
            self._give_up_s = now_s + timeout_s
        group = self._group
        if group is None or not self._may_repeat:
            return self._give_up_s
        per_try_s = group.upstream.retries.per_try_s
        return self._give_up_s if per_try_s is None else min(self._give_up_s, now_s + per_try_s)

    def late(self, silent: UpstreamConnection | None) -> float | None:
        """The present try is late: until when to wait now; None when there is nothing to wait for.

        Without another endpoint, or budget, this try may go on as long as the route allows.
        """
        if silent is None:
            return None
        if self.again(silent, silent=True):
            silent.abort()
            return self.answer_by_s(0.0) if self._origin is not None else _NEVER_S
        waits = self._plane.clock.monotonic_s() < self._give_up_s != _NEVER_S
        return self._give_up_s if waits else None

    def rejects(self, head: ResponseHead, sick: UpstreamConnection | None) -> bool:
        """Whether an answer that tells of a sick endpoint is dropped, because another try began."""
        if sick is None or health_of(head) is not False or not self.again(sick):
            return False
        sick.abort()
        return True

    def again(self, failed: UpstreamConnection, *, silent: bool = False) -> bool:
        """Whether another try has begun, of a request of which no answer reached the client.

        silent: the try was late; otherwise its connection or its answer was bad.
        """
        lost_idle = not silent and not failed.fresh and not failed.answered_any_byte
        self._origin = None
        failed.origin.report(ok=None if lost_idle else False)
        group = self._group
        if group is None or not self._may_repeat:
            return False
        if self._copy is not None and self._promote(self._copy):
            return True
        self._tried = (*self._tried, failed.origin)
        other = group.choose_other(self._tried, self._key)
        if lost_idle and not self._replaced_idle:
            self._replaced_idle = True
            self._plane.metrics.event("retry_after_lost_idle_connection")
            self._sender.on_again()
            self._begin(group, other or group.choose(self._key), fresh=True)
            return True
        if other is None or self._retries >= group.upstream.retries.limit:
            return False
        if self._plane.clock.monotonic_s() >= self._give_up_s:
            return False
        if not group.may_retry():
            self._plane.metrics.event("retry_budget_empty")
            return False
        self._retries += 1
        self._plane.metrics.event("retry")
        self._sender.on_again()
        self._begin(group, other, fresh=False)
        return True

    def report(self, *, ok: bool | None) -> None:
        """How it ended, once: to the breaker and to the endpoint. None: it says nothing."""
        origin, self._origin = self._origin, None
        if origin is not None:
            origin.report(ok=ok)
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.report(ok=ok)
        if self._copy is not None:
            self._copy.end()
            self._copy = None
        group = self._group
        if group is not None and group.upstream.hedge is not None and ok and origin is not None:
            group.observe(self._plane.clock.monotonic_s() - self._sent_s)

    def cancel(self) -> None:
        """Nobody wants the connection any more."""
        if self._turn is not None and self._group is not None and self._group.gate is not None:
            self._group.gate.forsake(self._turn)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            self._arrived()
        if self._copy is not None:
            self._copy.end()
            self._copy = None

    # What a second copy calls.

    def copy_sent(self) -> None:
        """It is on its way."""
        self._account.attempts += 1

    def copy_answered(self, copy: SecondCopy, connection: UpstreamConnection) -> None:
        """Its answer is the first one that can be used: from here on it is the request."""
        self._plane.metrics.event("hedge_won")
        if self._group is not None:
            self._group.observe(self._plane.clock.monotonic_s() - self._sent_s)
        if self._task is not None:
            self._task.cancel()  # the first copy may still wait for a connection
            self._arrived()
        self._adopt(copy, connection)

    # Inside.

    def _hand_over(self, group: UpstreamGroup, connection: UpstreamConnection) -> None:
        self._account.attempts += 1
        self._origin = connection.origin
        if group.upstream.hedge is not None:
            self._sent_s = self._plane.clock.monotonic_s()
        self._sender.on_connection(connection)

    def _begin(self, group: UpstreamGroup, endpoint: UpstreamEndpoint, *, fresh: bool) -> None:
        endpoint.expected += 1
        self._expecting = endpoint
        self._task = self._spawn(self._connect(group, endpoint, fresh=fresh))

    def _arrived(self) -> None:
        """The task has begun to ask for a connection, or never will."""
        endpoint, self._expecting = self._expecting, None
        if endpoint is not None:
            endpoint.expected -= 1

    async def _connect(
        self, group: UpstreamGroup, endpoint: UpstreamEndpoint, *, fresh: bool
    ) -> None:
        self._arrived()
        try:
            connection = await group.acquire(endpoint, fresh=fresh, key=self._key)
        except ScalelabError as error:
            self.report(ok=None if error.stable_code == "upstream_busy" else False)
            self._sender.on_unsent(refused_by(error))
        else:
            self._hand_over(group, connection)

    def _hedge(self, group: UpstreamGroup, head: RequestHead, delay_s: float) -> None:
        """Have a second copy sent after the delay, if the method is safe."""
        if head.method in ("GET", "HEAD") and head.framing is Framing.NONE:
            self._copy = SecondCopy(self, self._sender, group, self._plane, self._spawn)
            self._copy.begin_after(delay_s, self._key, to_head_request=head.method == "HEAD")

    def first_origin(self) -> Origin | None:
        """Where the present try is, None while it has no connection."""
        return self._origin

    def _promote(self, copy: SecondCopy) -> bool:
        """The present try has failed: the copy, if it is on its way, takes its place."""
        connection = copy.take()
        if connection is None:
            copy.end()
            self._copy = None
            return False
        connection.answer_to(self._sender)
        self._adopt(copy, connection)
        return True

    def _adopt(self, copy: SecondCopy, connection: UpstreamConnection) -> None:
        self._copy = None
        self._origin = connection.origin
        self._sent_s = copy.sent_s
        self._sender.on_copy(connection)


def may_be_repeated(head: RequestHead) -> bool:
    """Whether doing it twice is doing it once: by its method, or because it carries a key."""
    return head.method in _IDEMPOTENT or b"idempotency-key" in head.named


def key_of(account: Account, hash_on: str) -> str:
    """What a pick by key looks at; an anonymous caller's subject is its address."""
    if hash_on == "path":
        return account.target.path if account.target is not None else ""
    if hash_on == "subject" and account.admitted.subject:
        return account.admitted.subject
    return account.client_ip
