"""Processes on one port: what dies, what goes on, and what an operator may do meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from tests.fixtures.tiers import Count
from tests.integration.month1.gateway.harness import Peer, Seen, client, peer, plain, until
from tests.integration.month1.gateway.load import load
from tests.integration.month1.gateway_processes.harness import (
    DEADLINE_S,
    Processes,
    document,
    processes,
)

pytestmark = pytest.mark.timeout(400)
"""Each test starts two or three Python processes, one of them again; see DEADLINE_S."""


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processes]:
    """Two workers, for the tests that leave two behind. Each writes routes of its own first."""
    nowhere = Peer(port=9)
    async with processes(tmp_path_factory.mktemp("gateway"), document(nowhere)) as running:
        yield running


async def serve(gateway: Processes, text: str) -> None:
    """Put routes in force, at every worker."""
    gateway.write(text)
    assert (await gateway.admin.post("/reload")).status_code == 200


async def eventually(claim: Callable[[], Awaitable[bool]]) -> None:
    """Poll until `claim` holds; fail after the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not await claim():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.05)


class Slow:
    """An upstream that answers /slow when it is let go, everything else at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(
        self, seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if seen.target.endswith("/slow"):
            self.asked.set()
            await self.go.wait()
        writer.write(plain(200, b"done"))
        return True


async def test_reloads_right_and_wrong_drop_no_request(gateway: Processes, count: Count) -> None:
    """By file, by SIGHUP and by POST; a wrong file is told with its line and changes nothing."""
    async with peer() as app:
        await serve(gateway, document(app))
        async with load(gateway.port, "/x") as tally:
            for number in range(count(200, share=0.04)):
                right = document(app) + f"# {number}\n"
                gateway.write(right)
                if number % 2:
                    gateway.process.send_signal(signal.SIGHUP)
                else:
                    assert (await gateway.admin.post("/reload")).status_code == 200
                gateway.write(document(app, rate=", rate: nobody"))
                refused = await gateway.admin.post("/reload")
                assert refused.status_code == 422
                assert "routes.yaml:4" in refused.json()["detail"]
                await tally.more(5)
        assert tally.failed == 0
        refusals = 'gateway_config_reloads_total{outcome="refused",worker="supervisor"}'
        assert (await gateway.sample(refusals) or 0) >= 8
        assert await gateway.sample('gateway_config_file_right{worker="supervisor"}') == 0.0


async def test_a_changed_file_reaches_every_worker_by_itself(gateway: Processes) -> None:
    """W3: nobody asked for it; the new path is served and the old one is not."""
    async with peer() as app:
        await serve(gateway, document(app))
        before = (await gateway.admin.get("/routes")).json()["revision"]
        gateway.write(document(app, path="/new"))

        async def all_new() -> bool:
            revisions = {worker["revision"] for worker in await gateway.workers()}
            return len(revisions) == 1 and before not in revisions

        await eventually(all_new)
        async with client(gateway.port) as http:
            assert (await http.ask("GET", "/new/x")).status == 200
            assert (await http.ask("GET", "/old")).status == 404


async def test_a_killed_worker_takes_only_its_own_connections(gateway: Processes) -> None:
    """W1 and W2, under load; every worker is in one scrape, labelled."""
    restarts = 'gateway_worker_restarts_total{worker="supervisor"}'
    async with peer() as app:
        await serve(gateway, document(app))
        victim, other = await gateway.workers()
        restarted = await gateway.sample(restarts) or 0.0
        async with load(gateway.port, "/x", clients=6, per_connection=10) as tally:
            await tally.more(50)
            os.kill(victim["pid"], signal.SIGKILL)
            await until(lambda: not psutil.pid_exists(victim["pid"]))
            tally.marked = True
            await tally.more(200)

            async def back() -> bool:
                now = await gateway.workers()
                return now[0]["pid"] not in (victim["pid"], None) and now[0]["revision"] is not None

            await eventually(back)
            await tally.more(200)
        assert tally.after == 0
        assert tally.broken <= 6
        assert set(tally.answered) == {200}
        assert (await gateway.workers())[1]["pid"] == other["pid"]
        for worker in ("0", "1"):
            series = 'gateway_requests_total{method="GET",route="/*",status="200",worker="%s"}'
            assert await gateway.sample(series % worker)
        assert await gateway.sample(restarts) == restarted + 1


async def test_replacing_every_worker_drops_no_request(gateway: Processes) -> None:
    """W4: new processes, and a slow answer that began on an old one is finished."""
    slow = Slow()
    async with peer(slow) as app, client(gateway.port) as http:
        await serve(gateway, document(app))
        before = {worker["pid"] for worker in await gateway.workers()}
        answer = asyncio.create_task(http.ask("GET", "/slow"))
        await slow.asked.wait()
        async with load(gateway.port, "/x") as tally:
            replacing = asyncio.create_task(gateway.admin.post("/workers/replace"))
            await tally.more(20)
            slow.go.set()
            assert (await replacing).status_code == 200
            await tally.more(20)
        assert (await answer).body == b"done"
        assert tally.failed == 0
        assert before.isdisjoint({worker["pid"] for worker in await gateway.workers()})


async def test_a_drain_finishes_a_slow_answer(tmp_path: Path) -> None:
    """SIGTERM: not ready, no new connection, the answer whole, exit code 0."""
    slow = Slow()
    async with (
        peer(slow) as app,
        processes(tmp_path, document(app), workers=1) as alone,
        client(alone.port) as http,
    ):
        answer = asyncio.create_task(http.ask("GET", "/slow"))
        await slow.asked.wait()
        alone.process.terminate()

        async def closed() -> bool:
            return (await alone.admin.get("/health/ready")).status_code == 503

        await eventually(closed)
        slow.go.set()
        assert (await answer).body == b"done"
        async with asyncio.timeout(DEADLINE_S):
            assert await alone.process.wait() == 0


async def test_a_killed_supervisor_leaves_no_worker(tmp_path: Path) -> None:
    """W5."""
    async with peer() as app, processes(tmp_path, document(app)) as alone:
        pids = [worker["pid"] for worker in await alone.workers()]
        alone.process.kill()
        await alone.process.wait()

        async def gone() -> bool:
            return not any(_lives(pid) for pid in pids)

        await eventually(gone)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
