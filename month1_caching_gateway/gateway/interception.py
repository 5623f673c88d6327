"""Where another room steps in between admission and forwarding: a response cache, CORS.

An `Interceptor` is asked once per admitted request, before a breaker or a connection is. It may
answer by itself, hear the service's answer as it passes, or stand aside. Everything here runs on
the event loop inside the request's own callbacks, so it must not wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from month1_caching_gateway.gateway.admission import Admitted
from month1_caching_gateway.gateway.heads import RequestHead, ResponseHead
from month1_caching_gateway.gateway.problems import Header
from month1_caching_gateway.gateway.routes import Route
from month1_caching_gateway.gateway.targets import Target


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """An answer without a service. headers: lower-case names; length and connection are ours."""

    status: int
    headers: tuple[Header, ...]
    body: bytes


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

    def before_forward(
        self, route: Route, head: RequestHead, target: Target, admitted: Admitted
    ) -> OwnAnswer | Tap | None:
        """An answer, an ear for the service's answer, or nothing. Raises Refused."""
        ...
