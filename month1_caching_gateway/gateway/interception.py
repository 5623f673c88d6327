"""Where another room steps in between admission and forwarding: a response cache, CORS.

An `Interceptor` is asked once per admitted request, before a breaker or a connection is. It may
answer by itself, give the request a seat at a fetch that runs for several, hear the service's
answer as it passes, or stand aside. Everything here runs on the event loop inside the request's own
callbacks, so it must not wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from month1_caching_gateway.gateway.heads import Framing, RequestHead, ResponseHead
from month1_caching_gateway.gateway.problems import Header
from month1_caching_gateway.gateway.routes import Route
from month1_caching_gateway.gateway.upstream_connection import AnswerSink, UpstreamConnection

if TYPE_CHECKING:
    from month1_caching_gateway.gateway.account import Account


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """An answer without a service. head: with its content-length; it may be kept and given again.

    extra: headers of this answer alone.
    """

    head: ResponseHead
    body: bytes
    extra: tuple[Header, ...] = ()


def own_answer(status: int, headers: Iterable[Header], body: bytes) -> OwnAnswer:
    """headers: lower-case names; the length is added."""
    listed = [*headers]
    if status not in (204, 304):
        listed.append((b"content-length", b"%d" % len(body)))
    return OwnAnswer(ResponseHead(status, listed, Framing.LENGTH, len(body), True, b""), body)


class Seat(UpstreamConnection):
    """A place at a fetch that several wait for: a connection in all but the wire."""

    def take(self, sink: AnswerSink) -> None:
        """Wait for the answer; `sink` hears it as from a connection, perhaps before this ends."""
        raise NotImplementedError


class Tap(Protocol):
    """Hears one service's answer. It may add headers; the payload passes unchanged."""

    def on_head(self, head: ResponseHead) -> Iterable[Header]:
        """The final head has come. Returns headers to add for the client."""
        ...

    def on_body(self, pieces: list[bytes], *, ended: bool) -> None:
        """The next payload, without its framing; `ended` with the last, perhaps empty, call."""
        ...

    def on_broken(self) -> None:
        """The answer will never be whole: lost, refused, or the client has gone."""
        ...


class Interceptor(Protocol):
    """Decides per admitted request."""

    def before_forward(self, account: Account) -> OwnAnswer | Seat | Tap | None:
        """An answer, a seat, an ear for the service's answer, or nothing. Raises Refused."""
        ...

    def recall(self, head: RequestHead, route: Route, now_s: float) -> OwnAnswer | None:
        """The answer of a request that had it before, byte for byte, if nothing has changed.

        Only of one that `before_forward` answered for this route without a word on its caller.
        """
        ...

    def sweep(self, now_s: float) -> None:
        """Act on the deadlines that have passed."""
        ...
