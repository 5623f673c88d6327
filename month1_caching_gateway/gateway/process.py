"""What one process of the gateway is made of: settings and rules in, a gateway out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from month1_caching_gateway.gateway.admission import no_keys
from month1_caching_gateway.gateway.api_keys import KeyRing
from month1_caching_gateway.gateway.gateway import Gateway
from month1_caching_gateway.gateway.identity import Verifier
from month1_caching_gateway.gateway.key_file import KeyFile
from month1_caching_gateway.gateway.process_settings import ProcessSettings
from month1_caching_gateway.gateway.request_log import Sink
from month1_caching_gateway.gateway.snapshot import Rules
from month1_caching_gateway.ratelimit import Limiters, MemoryStores, RedisStores
from scalelab.clients.redis import connect
from scalelab.clock import Clock, SystemClock
from scalelab.errors import InvalidInput, Unauthenticated
from scalelab.security import HttpJwks, Principal, TokenVerifier, http_fetch
from scalelab.telemetry import Log, Telemetry


class NoTokens:
    """A verifier that believes nobody: for gateways whose routes are all open."""

    async def verify(self, token: str | None) -> Principal:
        """Raises Unauthenticated."""
        raise Unauthenticated("this gateway knows no issuer of tokens", code="token_invalid")


def check_tokens(settings: ProcessSettings, rules: Rules) -> None:
    """Raises InvalidInput if a route demands a user or a key, and nobody could have one."""
    for route in rules.routes:
        if route.auth in ("user", "either") and not settings.jwks_url:
            raise InvalidInput(
                f"route {route.name} demands a user, but no jwks_url is set", field="jwks_url"
            )
        if route.auth in ("key", "either") and settings.key_file is None:
            raise InvalidInput(
                f"route {route.name} takes API keys, but no key_file is set", field="key_file"
            )


@asynccontextmanager
async def opened(
    settings: ProcessSettings, rules: Rules, telemetry: Telemetry
) -> AsyncGenerator[Gateway]:
    """A gateway with its limiter and verifier, not yet listening; drained and closed at the end."""
    check_tokens(settings, rules)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        gateway = Gateway(
            settings.gateway_settings(),
            rules.routes,
            rules.upstreams,
            _verifier(settings, clock),
            _limiter(settings, clock, stack),
            telemetry,
            clock,
            rates=rules.rates,
            keys=_keys(settings, telemetry.log, stack),
            log_sink=None if settings.request_log else _nowhere,
        )
        gateway.apply(rules)  # with the revision; the services stay
        stack.push_async_callback(gateway.stop)
        yield gateway


def calm_collector() -> None:
    """Tell the garbage collector that what is loaded stays, and to look less often.

    A request leaves one small cycle behind, its exchange and its sending; looking for it every few
    dozen requests costs more than a few megabytes that wait. Going through all loaded modules now
    and then would be a pause.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _verifier(settings: ProcessSettings, clock: Clock) -> Verifier:
    if not settings.jwks_url:
        return NoTokens()
    keys = HttpJwks(settings.jwks_url, http_fetch, clock=clock)
    return TokenVerifier(keys, settings.token_issuer, settings.token_audience, clock)


def _limiter(settings: ProcessSettings, clock: Clock, stack: AsyncExitStack) -> Limiters:
    """Without Redis each process counts its own; when Redis is gone, its share."""
    if not settings.redis_url:
        return Limiters(MemoryStores(clock), clock)
    redis = connect(settings.redis_url, client_name="gateway")
    stack.push_async_callback(redis.aclose)
    stores = RedisStores(redis)
    stack.push_async_callback(stores.aclose)
    return Limiters(stores, clock, processes=settings.workers)


def _keys(settings: ProcessSettings, log: Log, stack: AsyncExitStack) -> Callable[[], KeyRing]:
    """The API keys of any instant; the file is read again when it has changed."""
    if settings.key_file is None:
        return no_keys
    file = KeyFile(settings.key_file)
    watching = asyncio.get_running_loop().create_task(_watch(file, settings.poll_s, log))
    stack.callback(watching.cancel)
    return lambda: file.ring


async def _watch(file: KeyFile, poll_s: float, log: Log) -> None:
    refused: tuple[int, ...] | None = None
    while True:
        await asyncio.sleep(poll_s)
        version = file.changed()
        if version is None or version == refused:
            continue
        try:
            file.reload()
            log.info("API keys read", keys=len(file.ring))
        except InvalidInput as error:
            refused = version
            log.error("API keys refused; those in hand stay", reason=error.message)


_nowhere: Sink = len
