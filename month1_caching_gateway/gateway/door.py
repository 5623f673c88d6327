"""The interceptor of a gateway: preflights are answered here, then the response cache is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from month1_caching_gateway.gateway.cached_answers import ResponseCache
from month1_caching_gateway.gateway.heads import RequestHead
from month1_caching_gateway.gateway.interception import OwnAnswer, Seat, Tap
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.routes import Route

if TYPE_CHECKING:
    from month1_caching_gateway.gateway.account import Account


class Door:
    """In force while a route has a CORS or a cache policy; see interception.py."""

    def __init__(self, plane: Plane, cache: ResponseCache) -> None:
        self._plane = plane
        self._cache = cache

    def before_forward(self, account: Account) -> OwnAnswer | Seat | Tap | None:
        if account.own is not None:
            return account.own
        return self._cache.serve(self._plane, account)

    def recall(self, head: RequestHead, route: Route, now_s: float) -> OwnAnswer | None:
        policy = route.cache
        return None if policy is None else self._cache.recall(head, policy, now_s)

    def sweep(self, now_s: float) -> None:
        self._cache.sweep(now_s)
