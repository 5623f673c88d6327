"""G1 to G4 of month5_kvstore/discovery/registry.py, on every registry that there is."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from random import Random

import pytest

from month5_kvstore.discovery import (
    BalancedClient,
    Directory,
    Instance,
    LiveSetting,
    PresenceEvent,
    Registry,
    open_registry,
    present,
)
from month5_kvstore.discovery.greeter import read_greeting
from scalelab.clock import SystemClock
from scalelab.errors import InvalidInput, Retryable, Unavailable
from scalelab.lab.runtime import Runtime, ServiceSpec
from tests.contracts.month5.keepers import KINDS, Keeper

pytestmark = pytest.mark.timeout(240)
WITHIN_S = 60.0
LONG_S = 120.0
SHORT_S = 1.5


@pytest.fixture(params=KINDS)
def keeper(request: pytest.FixtureRequest) -> Keeper:
    """Each in turn."""
    found: Keeper = request.getfixturevalue(f"{request.param}_keeper")
    return found


@pytest.fixture
async def registry(keeper: Keeper) -> AsyncIterator[Registry]:
    """A client of it."""
    async with open_registry(keeper.address, clock=SystemClock(), random=Random(1)) as opened:
        yield opened


@pytest.fixture
def service() -> str:
    """A service that no other test offers."""
    return f"s{uuid.uuid4().hex[:12]}"


def instance(service: str, name: str, port: int = 9, version: str = "1") -> Instance:
    return Instance(service, name, "127.0.0.1", port, version)


async def becomes(registry: Registry, service: str, *wanted: Instance) -> None:
    """Wait until a lookup names exactly these."""
    found: tuple[Instance, ...] = ()
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                found = await registry.lookup(service)
            except Retryable:  # an election, say
                found = ()
            else:
                if found == tuple(sorted(wanted)):
                    return
            await asyncio.sleep(0.05)


async def test_who_is_registered_is_found_and_who_withdraws_is_not(
    registry: Registry, service: str
) -> None:
    assert await registry.lookup(service) == ()
    two, one = instance(service, "two"), instance(service, "one", 10, "2")
    registrations = [await registry.register(each, ttl_s=LONG_S) for each in (two, one)]
    await becomes(registry, service, one, two)
    for _ in range(2):
        await registrations[0].withdraw()
        await becomes(registry, service, one)
    await registrations[1].heartbeat()
    await registrations[1].withdraw()
    await becomes(registry, service)


async def test_an_owner_that_was_replaced_does_not_take_its_successor_away(
    registry: Registry, service: str
) -> None:
    """The same id on another port: as after a restart within the old one's time to live."""
    old = await registry.register(instance(service, "a", 9), ttl_s=LONG_S)
    new = await registry.register(instance(service, "a", 10), ttl_s=LONG_S)
    await old.withdraw()
    await new.heartbeat()
    await becomes(registry, service, instance(service, "a", 10))
    await new.withdraw()
    await becomes(registry, service)


async def test_a_watch_gives_the_set_at_once_and_then_every_other(
    registry: Registry, service: str
) -> None:
    a, b = instance(service, "a"), instance(service, "b")
    first = await registry.register(a, ttl_s=LONG_S)
    await becomes(registry, service, a)
    async with asyncio.timeout(WITHIN_S), aclosing(registry.watch(service)) as watch:
        assert await anext(watch) == (a,)
        second = await registry.register(b, ttl_s=LONG_S)
        assert await anext(watch) == (a, b)
        await first.withdraw()
        assert await anext(watch) == (b,)
        await second.withdraw()
        assert await anext(watch) == ()


async def test_a_setting_is_written_read_and_watched_as_bytes(
    registry: Registry, service: str
) -> None:
    assert await registry.setting(service) is None
    values = [b"first", bytes(range(256)), b""]
    seen: list[bytes | None] = []
    async with asyncio.timeout(WITHIN_S), aclosing(registry.watch_setting(service)) as watch:
        async for value in watch:
            seen.append(value)
            if not values:
                break
            await registry.put_setting(service, values.pop(0))
    assert seen == [None, b"first", bytes(range(256)), b""]
    assert await registry.setting(service) == b""


async def test_a_setting_is_applied_without_a_restart_and_nonsense_is_refused(
    registry: Registry, service: str
) -> None:
    complaints: list[str] = []
    async with LiveSetting(
        registry,
        service,
        default="hello",
        read=read_greeting,
        random=Random(2),
        on_refused=complaints.append,
    ) as greeting:
        assert greeting.value == "hello"
        await registry.put_setting(service, b"good day")
        await until(lambda: greeting.value == "good day")
        await registry.put_setting(service, b"\xff\n")
        await until(lambda: greeting.refused == 1)
        assert greeting.value == "good day"
        assert service in complaints[0]
        await registry.put_setting(service, b"good night")
        await until(lambda: greeting.value == "good night")


async def test_an_unfit_instance_is_withdrawn_and_comes_back(
    registry: Registry, service: str
) -> None:
    fit = True
    events: list[str] = []

    async def check() -> None:
        if not fit:
            raise Unavailable("no database")

    def on_event(event: PresenceEvent) -> None:
        events.append(event.kind)

    me = instance(service, "me")
    async with present(registry, me, ttl_s=6.0, check=check, on_event=on_event):
        await becomes(registry, service, me)
        fit = False
        await becomes(registry, service)
        fit = True
        await becomes(registry, service, me)
    await becomes(registry, service)
    assert [kind for kind in events if kind != "away"] == ["registered", "unfit", "registered"]


async def test_bad_names_and_times_are_refused(registry: Registry, service: str) -> None:
    for bad in ("", "UPPER", "a/b", "a" * 64, "../x"):
        with pytest.raises(InvalidInput):
            await registry.lookup(bad)
        with pytest.raises(InvalidInput):
            await registry.put_setting(bad, b"")
    with pytest.raises(InvalidInput):
        await registry.register(instance(service, "a"), ttl_s=0.0)
    assert await registry.lookup(service) == ()


@contextmanager
def greeter(keeper: Keeper, service: str, *, ttl_s: float) -> Iterator[Instance]:
    """A process that registers itself; killed at the end."""
    runtime, name = keeper.runtime, f"greeter-{service}"
    port = runtime.port(name, 8550)
    settings = {"PORT": port, "REGISTRY": keeper.address, "SERVICE": service}
    settings |= {"ID": "me", "TTL_S": ttl_s}
    runtime.service(
        ServiceSpec(
            name,
            ("python", "-m", "month5_kvstore.discovery"),
            port=port,
            env={f"GREETER_{key}": str(value) for key, value in settings.items()},
        )
    )
    try:
        yield instance(service, "me", port)
    finally:
        runtime.kill(name)


def events_of(runtime: Runtime, service: str) -> list[str]:
    """What the process was told of its registration, as it logged it."""
    lines = runtime.log_path(f"greeter-{service}").read_text().splitlines()
    documents = [json.loads(line) for line in lines if line.startswith("{")]
    kinds = [document["kind"] for document in documents if document.get("event") == "presence"]
    return [kind for kind in kinds if kind != "away"]


async def until(holds: Callable[[], bool]) -> None:
    """Poll until it holds."""
    end_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.02)


async def test_the_registration_of_a_killed_owner_ends_by_itself(
    keeper: Keeper, registry: Registry, service: str
) -> None:
    """G1. Nobody says goodbye after kill -9."""
    with greeter(keeper, service, ttl_s=SHORT_S) as me:
        await becomes(registry, service, me)
        keeper.runtime.kill(f"greeter-{service}")
        await becomes(registry, service)


async def test_a_frozen_owner_is_forgotten_and_must_register_anew(
    keeper: Keeper, registry: Registry, service: str
) -> None:
    """G2. Its heartbeat comes too late, and revives nothing: it is told, and registers again."""
    with greeter(keeper, service, ttl_s=SHORT_S) as me:
        await becomes(registry, service, me)
        before = len(events_of(keeper.runtime, service))
        keeper.runtime.pause(f"greeter-{service}")
        await becomes(registry, service)
        keeper.runtime.resume(f"greeter-{service}")
        await becomes(registry, service, me)
        assert events_of(keeper.runtime, service)[before : before + 2] == ["lost", "registered"]


async def test_while_the_registry_is_away_those_last_known_go_on_being_called(
    keeper: Keeper, registry: Registry, service: str
) -> None:
    """V1, V2, G4: a lookup says that nobody answers, never that nobody serves."""
    clock = SystemClock()
    with greeter(keeper, service, ttl_s=LONG_S) as me:
        async with (
            asyncio.timeout(3 * WITHIN_S),
            Directory(registry, [service], random=Random(3)) as directory,
            BalancedClient(
                directory, service, clock=clock, random=Random(4), timeout_s=30.0
            ) as balanced,
        ):
            await directory.until(service, lambda view: view.instances == (me,))
            await asyncio.to_thread(keeper.kill)
            try:
                with pytest.raises(Retryable):
                    await registry.lookup(service)
                await directory.until(service, lambda view: view.stale)
                assert directory.view(service).instances == (me,)
                answer = await balanced.request("GET", "/hello")
                assert answer.json()["instance"] == "me"
            finally:
                await asyncio.to_thread(keeper.restart)
            view = await directory.until(service, lambda view: not view.stale)
            assert view.instances == (me,)
