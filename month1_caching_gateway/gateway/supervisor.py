"""Several processes on one port: started, watched, replaced, and told of every change of routes.

Theory of operation
    The supervisor opens one listening socket per worker, all on the same port (SO_REUSEPORT), and
    every worker inherits all of them. A worker takes connections from its own. When a worker is
    away, a neighbour takes from its socket as well, until the replacement listens. So the kernel
    spreads connections evenly, and what waits in the queue of a dead worker's socket is served.

Invariants (tests cite them)
    W1  A worker that dies takes its own connections with it and nothing else: new ones succeed.
    W2  A dead worker comes back, at most as often as the backoff allows.
    W3  All workers serve the same document; one that starts late serves the latest.
    W4  A drain or a replacement fails no request that ends within `drain_s`.
    W5  When the supervisor is gone, its workers go: they see the channel end, and drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, generate_latest

from month1_caching_gateway.gateway.channel import Message
from month1_caching_gateway.gateway.process import check_tokens
from month1_caching_gateway.gateway.process_settings import ProcessSettings
from month1_caching_gateway.gateway.route_file import Document, RouteFile
from month1_caching_gateway.gateway.worker_process import WorkerProcess
from scalelab.clock import Clock
from scalelab.errors import ScalelabError, Unavailable
from scalelab.resilience import Backoff
from scalelab.telemetry import Log

_BACKLOG = 2048
_BACKOFF = Backoff(first_s=0.1, factor=2.0, cap_s=10.0)
_HEALTHY_AFTER_S = 10.0
_AFTER_DRAIN_S = 5.0


@dataclass(slots=True)
class Slot:
    """One place for a worker. keeper: the neighbour that takes its connections meanwhile."""

    number: int
    worker: WorkerProcess | None = None
    keeper: WorkerProcess | None = None
    restarts: int = 0


class Supervisor:
    """Made by `supervised`. registry, log: the supervisor's own."""

    def __init__(
        self,
        settings: ProcessSettings,
        route_file: RouteFile,
        registry: CollectorRegistry,
        log: Log,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._route_file = route_file
        self._registry = registry
        self._log = log
        self._clock = clock
        self._document = route_file.in_force
        self._listeners: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.slots = [Slot(number) for number in range(settings.workers)]
        self.port = 0
        self._restarts = Counter(
            "gateway_worker_restarts", "Workers that died and were replaced.", registry=registry
        )

    @property
    def document(self) -> Document:
        """What every worker serves, or is being told to."""
        return self._document

    @property
    def serving(self) -> bool:
        """Some worker takes requests, and no drain has begun."""
        return bool(self.alive) and not self._stopping

    @property
    def alive(self) -> list[WorkerProcess]:
        """The workers that serve now."""
        workers = (slot.worker for slot in self.slots)
        return [worker for worker in workers if worker is not None and not worker.ended.is_set()]

    async def start(self) -> None:
        """Open the port, start every worker. Raises Unavailable (`address_in_use`)."""
        check_tokens(self._settings, self._document.rules)
        self._listeners = _listeners(self._settings)
        self.port = int(self._listeners[0].getsockname()[1])
        for slot, started in zip(
            self.slots, await asyncio.gather(*map(self._start_one, self.slots)), strict=True
        ):
            slot.worker = started
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in self.slots]
        self._tasks.append(
            asyncio.create_task(
                self._route_file.watch(self._apply, poll_s=self._settings.poll_s), name="watch"
            )
        )

    async def reload(self) -> Document:
        """Read the route file now. Raises BadFile; the routes in force then stay."""
        return await self._route_file.reload(self._apply)

    async def replace_all(self) -> None:
        """A new process for each, one after the other: the old one drains when the new serves."""
        for slot in self.slots:
            old = slot.worker
            slot.worker = await self._start_one(slot)
            if old is not None:
                await old.drain(self._settings.drain_s + _AFTER_DRAIN_S)

    async def stop(self) -> None:
        """Drain every worker, then close the port. Safe to call twice."""
        self._stopping = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        within_s = self._settings.drain_s + _AFTER_DRAIN_S
        await asyncio.gather(*(worker.drain(within_s) for worker in self.alive))
        for listener in self._listeners:
            listener.close()

    async def metrics(self) -> dict[str, str]:
        """The exposition of every worker that answers, and the supervisor's own."""
        texts = {"supervisor": generate_latest(self._registry).decode()}
        answers = await asyncio.gather(*(_asked(worker, "metrics") for worker in self.alive))
        for number, answer in answers:
            if answer is not None:
                texts[str(number)] = str(answer["text"])
        return texts

    async def states(self) -> list[Message]:
        """Each slot: number, pid, restarts, and what the worker says of itself."""
        said = dict(await asyncio.gather(*(_asked(worker, "state") for worker in self.alive)))
        states: list[Message] = []
        for slot in self.slots:
            answer = said.get(slot.number) or {}
            states.append(
                {
                    "worker": slot.number,
                    "pid": slot.worker.pid if slot.worker else None,
                    "restarts": slot.restarts,
                    "revision": answer.get("revision"),
                    "connections": answer.get("connections"),
                }
            )
        return states

    async def _apply(self, document: Document) -> None:
        """Tell every worker (W3). A worker that starts meanwhile begins with `document`."""
        check_tokens(self._settings, document.rules)
        self._document = document
        await asyncio.gather(*(self._tell(worker) for worker in self.alive))

    async def _tell(self, worker: WorkerProcess) -> None:
        document = self._document
        try:
            await worker.ask("apply", document=document.text, name=document.name)
        except Unavailable:
            if not worker.ended.is_set():
                await worker.kill()  # frozen: its replacement begins with the new document

    async def _start_one(self, slot: Slot) -> WorkerProcess:
        begun_with = self._document
        worker = await WorkerProcess.start(slot.number, self._listeners, self._settings, begun_with)
        if begun_with is not self._document:
            await self._tell(worker)
        return worker

    async def _keep(self, slot: Slot) -> None:
        """Bring the slot's worker back whenever it dies, until the supervisor stops (W2)."""
        failures = 0
        while not self._stopping:
            worker = slot.worker
            if worker is None:
                await asyncio.sleep(_BACKOFF.ceiling_s(failures + 1) if failures else 0)
                try:
                    worker = slot.worker = await self._start_one(slot)
                except ScalelabError as error:
                    failures += 1
                    self._log.error("worker not started", worker=slot.number, reason=str(error))
                    continue
                await self._uncover(slot)
            served_from_s = self._clock.monotonic_s()
            await worker.ended.wait()
            if slot.worker is not worker:
                continue  # replaced on purpose
            lived_s = self._clock.monotonic_s() - served_from_s
            failures = failures + 1 if lived_s < _HEALTHY_AFTER_S else 0
            slot.worker = None
            slot.restarts += 1
            self._restarts.inc()
            self._log.error("worker died", worker=slot.number, pid=worker.pid)
            await self._cover()

    async def _cover(self) -> None:
        """Have the sockets of absent workers served by neighbours (W1)."""
        for slot in self.slots:
            orphaned = slot.keeper is None or slot.keeper.ended.is_set()
            if slot.worker is not None or not orphaned:
                continue
            slot.keeper = None
            for neighbour in self.alive:
                with contextlib.suppress(ScalelabError):
                    await neighbour.ask("listen", number=slot.number)
                    slot.keeper = neighbour
                    break

    async def _uncover(self, slot: Slot) -> None:
        keeper, slot.keeper = slot.keeper, None
        if keeper is not None:
            with contextlib.suppress(ScalelabError):
                await keeper.ask("leave", number=slot.number)


async def _asked(worker: WorkerProcess, do: str) -> tuple[int, Message | None]:
    try:
        return worker.number, await worker.ask(do)
    except ScalelabError:
        return worker.number, None


def _listeners(settings: ProcessSettings) -> list[socket.socket]:
    """One listening socket per worker, all on one port. Raises Unavailable (`address_in_use`)."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made: list[socket.socket] = []
    port = settings.port
    try:
        for _ in range(settings.workers):
            listener = socket.socket(family, socket.SOCK_STREAM)
            made.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((settings.host, port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            port = int(listener.getsockname()[1])
    except OSError as error:
        for listener in made:
            listener.close()
        raise Unavailable(
            f"cannot listen on {settings.host}:{port}: {error.strerror}", code="address_in_use"
        ) from error
    return made


@asynccontextmanager
async def supervised(
    settings: ProcessSettings,
    route_file: RouteFile,
    registry: CollectorRegistry,
    log: Log,
    clock: Clock,
) -> AsyncGenerator[Supervisor]:
    """Workers that serve, drained at the end. Raises BadFile, InvalidInput, Unavailable."""
    supervisor = Supervisor(settings, route_file, registry, log, clock)
    try:
        await supervisor.start()
        yield supervisor
    finally:
        await supervisor.stop()
