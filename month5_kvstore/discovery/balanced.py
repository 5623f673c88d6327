"""Client-side balancing: each call goes to one of the instances that the directory names.

The better of two drawn at random gets the call. A call that never left (refused, no route), and one
that changes nothing, is made again at another instance, once at each that is left; any other that
left and got no answer is not. An instance that failed so is passed over for a moment, since the
registry will hear of its death only when its time is over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, Self

from month5_kvstore.discovery.directory import View
from month5_kvstore.discovery.instances import Instance
from scalelab.balancing import two_choices
from scalelab.clients.http import Answer, HttpClient
from scalelab.clock import Clock
from scalelab.errors import Unavailable

_PASSED_OVER_S = 1.0


class Views(Protocol):
    """What a caller needs of a `Directory`."""

    def view(self, service: str) -> View: ...


@dataclass(slots=True)
class _Peer:
    """One instance, as `scalelab.balancing` wants to see it."""

    name: str
    http: HttpClient
    stack: AsyncExitStack
    in_flight: int = 0
    weight: float = 1.0
    away_until_s: float = 0.0
    available: bool = True
    left: bool = False


class BalancedClient:
    """Calls to one service; an async context manager. It follows the view of `directory`.

    answers, retries: how many calls were answered, and how many attempts were in vain.
    """

    def __init__(
        self,
        directory: Views,
        service: str,
        *,
        clock: Clock,
        random: Random,
        timeout_s: float = 2.0,
    ) -> None:
        self._directory = directory
        self._service = service
        self._clock = clock
        self._random = random
        self._timeout_s = timeout_s
        self._peers: dict[Instance, _Peer] = {}
        self.answers = 0
        self.retries = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for peer in self._peers.values():
            await peer.stack.aclose()
        self._peers.clear()

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        """As `HttpClient.request`, at some instance. Raises Unavailable where nobody is left."""
        tried: set[Instance] = set()
        while True:
            instance = await self._pick(tried)
            tried.add(instance)
            try:
                async with self._lent(instance) as http:
                    answer = await http.request(method, path, **options)
            except Unavailable as error:
                if error.stable_code != "peer_unavailable":
                    raise
                self.retries += 1
                peer = self._peers.get(instance)
                if peer is not None:
                    peer.away_until_s = self._clock.monotonic_s() + _PASSED_OVER_S
                if tried >= set(self._directory.view(self._service).instances):
                    raise
            else:
                self.answers += 1
                return answer

    async def _pick(self, tried: set[Instance]) -> Instance:
        await self._follow()
        now_s = self._clock.monotonic_s()
        for patient in (False, True):
            for instance, peer in self._peers.items():
                rested = patient or peer.away_until_s <= now_s
                peer.available = rested and instance not in tried and not peer.left
            found = two_choices(list(self._peers.values()), self._random.randrange)
            if found is not None:
                return list(self._peers)[found]
        raise Unavailable(f"nobody serves {self._service}", code="no_instance")

    async def _follow(self) -> None:
        """Know the instances of the view; let go of others once nothing is in flight there."""
        wanted = self._directory.view(self._service).instances
        for instance in wanted:
            if instance not in self._peers:
                stack = AsyncExitStack()
                http = HttpClient(instance.url, timeout_s=self._timeout_s)
                self._peers[instance] = _Peer(instance.id, http, stack)
                await stack.enter_async_context(http)
        for instance, peer in list(self._peers.items()):
            peer.left = instance not in wanted
            if peer.left and not peer.in_flight:
                del self._peers[instance]
                await peer.stack.aclose()

    @asynccontextmanager
    async def _lent(self, instance: Instance) -> AsyncGenerator[HttpClient, None]:
        peer = self._peers[instance]
        peer.in_flight += 1
        try:
            yield peer.http
        finally:
            peer.in_flight -= 1
