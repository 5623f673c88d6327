"""What do callers notice of a rolling update: with a list, with a registry, behind a proxy?

Three instances of a service are replaced one by one, each by one on another port, while three
callers call at a steady rate: one has a list of addresses, one follows the registry, one asks a
proxy that follows it. Then all are replaced once more, by being stopped without a goodbye. Counted:
calls that failed, and attempts that never got through. Each caller may try a call again at another
instance, as long as there is one that it knows and has not tried.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random

from month5_kvstore.discovery import (
    BalancedClient,
    Directory,
    Instance,
    Registry,
    View,
    create_lookup_proxy,
    open_registry,
)
from month5_kvstore.stack import start_stack
from scalelab.clients.http import Answer, HttpClient
from scalelab.clock import SystemClock
from scalelab.errors import Retryable, ScalelabError
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.runtime import Runtime, ServiceSpec
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web.serving import serve

SERVICE = "greeter"
INSTANCES = 3
EVERY_S = 0.02
_TTL_S = 6.0
_CALL_S = 20.0
_PATIENCE_S = 60.0
_AFTER_CALLS = 25
_FIRST_PORT = 8560


@dataclass(slots=True)
class Caller:
    """What one kind of caller saw. after: failed calls after the update was over."""

    call: Callable[[], Awaitable[Answer]]
    calls: int = 0
    failed: int = 0
    after: int = 0
    versions: Counter[str] = field(default_factory=Counter[str])

    async def once(self, *, is_over: bool) -> None:
        """One call, counted."""
        self.calls += 1
        try:
            answer = await self.call()
        except ScalelabError:
            self.failed += 1
            self.after += is_over
        else:
            self.versions[answer.json()["version"]] += 1


class FixedList:
    """A view that nobody changes: a list of addresses in a file."""

    def __init__(self, instances: tuple[Instance, ...]) -> None:
        self._view = View(instances, stale=False)

    def view(self, service: str) -> View:
        """The same for ever."""
        return self._view


class Fleet:
    """The processes of the service, of one version at a time but for an update."""

    def __init__(self, runtime: Runtime, address: str) -> None:
        self._runtime = runtime
        self._address = address
        self._running: list[str] = []
        self._number = 0

    def start(self, version: str, *, drain: bool) -> Instance:
        """One more, ready and registered soon."""
        self._number += 1
        name = f"g{self._number}"
        port = self._runtime.port(name, _FIRST_PORT + self._number)
        settings = {"PORT": port, "REGISTRY": self._address, "ID": name, "VERSION": version}
        settings |= {"TTL_S": _TTL_S, "DRAIN": drain, "LOG_LEVEL": "warning"}
        env = {f"GREETER_{key}": str(value) for key, value in settings.items()}
        argv = ("python", "-m", "month5_kvstore.discovery")
        self._runtime.service(ServiceSpec(name, argv, port, env))
        self._running.append(name)
        return Instance(SERVICE, name, "127.0.0.1", port, version)

    def stop_oldest(self) -> None:
        """SIGTERM, and wait for its end."""
        self._runtime.stop(self._running.pop(0))


async def registered(registry: Registry, instance: Instance) -> None:
    """Wait until a lookup names it."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                if instance in await registry.lookup(SERVICE):
                    return
            except Retryable:
                pass
            await asyncio.sleep(0.05)


async def calling(callers: list[Caller], over: asyncio.Event) -> None:
    """All callers at a steady rate, answered or not, until a while after `over`."""
    left = _AFTER_CALLS
    async with asyncio.TaskGroup() as group:
        while left:
            left -= over.is_set()
            for caller in callers:
                group.create_task(caller.once(is_over=over.is_set()))
            await asyncio.sleep(EVERY_S)


async def update(
    fleet: Fleet, registry: Registry, callers: list[Caller], version: str, *, drain: bool
) -> None:
    """Replace all instances, one after the other, while the callers call."""
    over = asyncio.Event()

    async def replace() -> None:
        for _ in range(INSTANCES):
            made = await asyncio.to_thread(fleet.start, version, drain=drain)
            await registered(registry, made)
            await asyncio.to_thread(fleet.stop_oldest)
        over.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(replace())
        group.create_task(calling(callers, over))


async def run(lab: Lab, address: str) -> Result:
    """Two updates: one that says goodbye, one that does not."""
    clock, random = SystemClock(), lab.random()
    fleet = Fleet(lab.runtime, address)
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(
            open_registry(address, clock=clock, random=random)
        )
        first = [await asyncio.to_thread(fleet.start, "1", drain=True) for _ in range(INSTANCES)]
        for instance in first:
            await registered(registry, instance)
        directory = await stack.enter_async_context(Directory(registry, [SERVICE], random=random))
        async with asyncio.timeout(_PATIENCE_S):
            await directory.until(SERVICE, lambda view: len(view.instances) == INSTANCES)

        async def balanced(views: Directory | FixedList) -> BalancedClient:
            return await stack.enter_async_context(
                BalancedClient(views, SERVICE, clock=clock, random=Random(1), timeout_s=_CALL_S)
            )

        by_list = await balanced(FixedList(tuple(sorted(first))))
        followed, behind, late = [await balanced(directory) for _ in range(3)]
        proxy = await stack.enter_async_context(Proxy(lab.runtime, behind))
        callers = {
            "a list": Caller(lambda: by_list.request("GET", "/hello")),
            "the registry": Caller(lambda: followed.request("GET", "/hello")),
            "a proxy": Caller(lambda: proxy.get("/to/hello")),
        }
        lab.note("a rolling update, each instance withdrawn before it stops")
        # The new ones will not say goodbye, when their turn comes.
        await update(fleet, registry, list(callers.values()), "2", drain=False)
        abrupt = Caller(lambda: late.request("GET", "/hello"))
        lab.note("the next one, each instance stopped without a goodbye")
        await update(fleet, registry, [abrupt], "3", drain=True)
        callers["the registry, no goodbye"] = abrupt
        retries = {
            "a list": by_list.retries,
            "the registry": followed.retries,
            "a proxy": behind.retries,
            "the registry, no goodbye": late.retries,
        }
    return judged(callers, retries)


class Proxy:
    """The proxy, served in this process, and a client of it."""

    def __init__(self, runtime: Runtime, balanced: BalancedClient) -> None:
        self._port = runtime.port("lookup-proxy", _FIRST_PORT)
        settings = TelemetrySettings("lookup-proxy", log_level="error")
        self._app = create_lookup_proxy(balanced, build_telemetry(settings))
        self._stop = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> HttpClient:
        listening = asyncio.Event()
        serving = asyncio.create_task(
            serve(
                self._app,
                host="127.0.0.1",
                port=self._port,
                stop=self._stop,
                on_listening=lambda _host, _port: listening.set(),
            )
        )

        async def end() -> None:
            self._stop.set()
            await serving

        self._stack.push_async_callback(end)
        await listening.wait()
        client = HttpClient(f"http://127.0.0.1:{self._port}", timeout_s=2 * _CALL_S)
        return await self._stack.enter_async_context(client)

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()


def judged(callers: dict[str, Caller], retries: dict[str, int]) -> Result:
    """Arms and claims of what was counted."""
    arms = [
        Arm(
            name,
            "control" if name == "a list" else "treatment",
            {
                "calls": one.calls,
                "failed": one.failed,
                "failed_after_the_update": one.after,
                "attempts_in_vain": retries[name],
                **{f"answered_by_{version}": n for version, n in sorted(one.versions.items())},
            },
            ((0.0, float(one.failed)),),
        )
        for name, one in callers.items()
    ]
    by_list, followed, proxied = (callers[name] for name in ("a list", "the registry", "a proxy"))
    abrupt, goodbye = "the registry, no goodbye", "the registry"
    return Result(
        arms=tuple(arms),
        shape=(
            Claim(
                "Callers with a list reach nobody once the last old instance is gone.",
                by_list.after == _AFTER_CALLS,
                f"{by_list.after} of {_AFTER_CALLS} failed",
            ),
            Claim(
                "Callers that follow the registry see both versions and no failed call.",
                followed.failed == 0 and set(followed.versions) == {"1", "2"},
                f"{followed.failed} of {followed.calls} failed",
            ),
            Claim(
                "Nor do callers who know only the proxy.",
                proxied.failed == 0 and set(proxied.versions) == {"1", "2"},
                f"{proxied.failed} of {proxied.calls} failed",
            ),
            Claim(
                "Instances that stop without a goodbye are called in vain until their time is "
                "over, more often than those that withdraw first.",
                retries[abrupt] > retries[goodbye],
                f"{retries[abrupt]} attempts in vain against {retries[goodbye]}",
            ),
        ),
        plot=Plot(Axis("caller"), Axis("failed calls"), kind="bars"),
        notes=(
            f"{INSTANCES} instances, a call of each caller every {EVERY_S * 1000:.0f} ms.",
            f"A registration lasts {_TTL_S} s after its last heartbeat.",
            "A call that changes nothing is tried again where it has not been tried yet.",
        ),
    )


def measure(lab: Lab) -> Result:
    """On this month's own store."""
    stack = start_stack(lab.runtime, restart=False)
    hosts = ",".join(url.removeprefix("http://") for url in stack.urls.values())
    return asyncio.run(run(lab, f"store://{hosts}"))


EXPERIMENT = Experiment(
    slug="service-discovery",
    question="What do callers notice of a rolling update: with a list, with a registry, behind a "
    "proxy?",
    varied="where a caller has the addresses from; whether an instance withdraws before it stops",
    fixed="three instances replaced one by one, one rate of calls, the same balancing and retries",
    run=measure,
    topics=("A14", "P6.1", "M5.4"),
)
