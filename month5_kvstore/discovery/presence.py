"""The owner's side: keep an instance in the registry for as long as it is fit, and no longer.

Theory of operation
    Three times per time to live the instance is asked whether it is fit, and if so a heartbeat
    goes out. One that is not fit is withdrawn at once, and offered again when it is. A registration
    that ended behind its owner's back (the owner stood still, or the registry forgot) is not
    revived: the owner hears of it, and makes a new one. A registry that is away changes nothing: it
    goes on being tried, and the instance goes on serving.

Invariant
    P1  After the block nobody is sent here, or the registration ends by itself within its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from month5_kvstore.discovery.instances import Instance, check_ttl
from month5_kvstore.discovery.registry import Registration, RegistrationLost, Registry
from scalelab.errors import Retryable, ScalelabError

Kind = Literal["registered", "lost", "unfit", "away"]
_BEATS = 3


@dataclass(frozen=True, slots=True)
class PresenceEvent:
    """registered: offered to everybody. lost: the registration had ended. unfit: withdrawn.

    away: the registry did not answer. why: in words.
    """

    kind: Kind
    instance: Instance
    why: str = ""


def ignore(event: PresenceEvent) -> None:
    """Listens to nothing."""


async def always_fit() -> None:
    """A health check that never complains."""


class _Presence:
    def __init__(
        self,
        registry: Registry,
        instance: Instance,
        ttl_s: float,
        check: Callable[[], Awaitable[None]],
        on_event: Callable[[PresenceEvent], None],
    ) -> None:
        self._registry = registry
        self._instance = instance
        self._ttl_s = ttl_s
        self._check = check
        self._on_event = on_event
        self._registration: Registration | None = None

    async def run(self) -> None:
        while True:
            await self._beat()
            await asyncio.sleep(self._ttl_s / _BEATS)

    async def withdraw(self) -> None:
        registration, self._registration = self._registration, None
        if registration is not None:
            await registration.withdraw()

    async def _beat(self) -> None:
        complaint = await self._complaint()
        try:
            if complaint is not None:
                if self._registration is not None:
                    await self.withdraw()
                    self._tell("unfit", complaint)
            elif self._registration is None:
                await self._register()
            else:
                await self._registration.heartbeat()
        except RegistrationLost as error:
            self._registration = None
            self._tell("lost", error.message)
            await self._beat_again()
        except Retryable as error:
            self._tell("away", error.message)

    async def _beat_again(self) -> None:
        try:
            await self._register()
        except Retryable as error:
            self._tell("away", error.message)

    async def _register(self) -> None:
        self._registration = await self._registry.register(self._instance, ttl_s=self._ttl_s)
        self._tell("registered")

    async def _complaint(self) -> str | None:
        try:
            async with asyncio.timeout(self._ttl_s / _BEATS):
                await self._check()
        except TimeoutError:
            return "the health check did not end"
        except ScalelabError as error:
            return error.message
        return None

    def _tell(self, kind: Kind, why: str = "") -> None:
        self._on_event(PresenceEvent(kind, self._instance, why))


@asynccontextmanager
async def present(
    registry: Registry,
    instance: Instance,
    *,
    ttl_s: float,
    check: Callable[[], Awaitable[None]] = always_fit,
    on_event: Callable[[PresenceEvent], None] = ignore,
) -> AsyncGenerator[None, None]:
    """Registered while the block runs; withdrawn when it ends, before anything else is stopped.

    check: raises one of our errors when the instance should get no calls; it is given a third of
    `ttl_s`. Never raises because the registry is away: `on_event` hears of that.
    """
    check_ttl(ttl_s)
    presence = _Presence(registry, instance, ttl_s, check, on_event)
    task = asyncio.create_task(presence.run(), name=f"presence of {instance.id}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        with suppress(Retryable):  # then it ends by itself (P1)
            await presence.withdraw()
        if not task.cancelled():
            task.result()
