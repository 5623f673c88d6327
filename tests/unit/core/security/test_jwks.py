"""When the issuer's keys are fetched, and what happens while it is away."""

from __future__ import annotations

import asyncio
import json

import pytest

from scalelab.clock import ManualClock
from scalelab.errors import Unavailable
from scalelab.security import HttpJwks, SigningKey, jwks


class Issuer:
    def __init__(self, *keys: SigningKey) -> None:
        self.body = json.dumps(jwks(keys)).encode()
        self.fetches = 0
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def fetch(self, _url: str) -> bytes:
        self.fetches += 1
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if not self.body:
            raise Unavailable("away")
        return self.body


def make(issuer: Issuer, clock: ManualClock) -> HttpJwks:
    return HttpJwks("https://i.test/jwks", issuer.fetch, clock=clock, timeout_s=0.05)


async def test_parallel_first_users_share_one_fetch() -> None:
    """Single flight: a burst at start asks the issuer once."""
    issuer, clock = Issuer(key := SigningKey.generate()), ManualClock()
    source = make(issuer, clock)
    found = await asyncio.gather(*(source.key(key.kid) for _ in range(50)))
    assert all(one == key.private.public_key() for one in found)
    assert issuer.fetches == 1


async def test_known_keys_are_read_again_when_old() -> None:
    """A withdrawn key goes away after max_age_s even if nobody shows a new one."""
    issuer, clock = Issuer(key := SigningKey.generate()), ManualClock()
    source = make(issuer, clock)
    assert await source.key(key.kid) is not None
    issuer.body = json.dumps(jwks([SigningKey.generate()])).encode()
    clock.advance(299)
    assert await source.key(key.kid) is not None
    generation = source.generation
    clock.advance(1)
    assert await source.key(key.kid) is None
    assert source.generation == generation + 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"keys": []}', b'{"keys": 7}', b"[" * 9999])
async def test_known_keys_serve_while_the_issuer_fails(body: bytes) -> None:
    """Away or talking nonsense: the set in hand serves for an hour, then nobody is let in."""
    issuer, clock = Issuer(key := SigningKey.generate()), ManualClock()
    source = make(issuer, clock)
    await source.key(key.kid)
    issuer.body = body
    clock.advance(3000)
    assert await source.key(key.kid) is not None
    clock.advance(601)
    with pytest.raises(Unavailable) as caught:
        await source.key(key.kid)
    assert caught.value.stable_code == "keys_unavailable"


async def test_silent_issuer_costs_one_deadline_per_interval() -> None:
    """A hanging endpoint delays one round of callers, not every request after it."""
    issuer, clock = Issuer(SigningKey.generate()), ManualClock()
    issuer.gate = asyncio.Event()
    source = make(issuer, clock)
    results = await asyncio.gather(*(source.key("k") for _ in range(20)), return_exceptions=True)
    assert {type(one) for one in results} == {Unavailable}
    with pytest.raises(Unavailable):
        await source.key("k")
    assert issuer.fetches == 1


async def test_a_service_without_any_key_asks_again_after_a_second() -> None:
    """An issuer that starts a little later than its readers does not cost them ten seconds."""
    issuer, clock = Issuer(key := SigningKey.generate()), ManualClock()
    there, issuer.body = issuer.body, b""
    source = make(issuer, clock)
    with pytest.raises(Unavailable):
        await source.key(key.kid)
    issuer.body = there
    clock.advance(0.9)
    with pytest.raises(Unavailable):
        await source.key(key.kid)
    clock.advance(0.1)
    assert await source.key(key.kid) is not None
    assert issuer.fetches == 2


async def test_cancelled_caller_does_not_block_the_next() -> None:
    """A request that is given up in the middle of the fetch leaves the source usable."""
    issuer, clock = Issuer(key := SigningKey.generate()), ManualClock()
    issuer.gate = asyncio.Event()
    source = HttpJwks("https://i.test", issuer.fetch, clock=clock, min_interval_s=10)
    first = asyncio.create_task(source.key(key.kid))
    await issuer.asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    issuer.gate.set()
    clock.advance(10)
    assert await source.key(key.kid) is not None
