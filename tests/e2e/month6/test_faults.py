"""Orders stay correct while the shop is broken: one fault a test, under load, then the verdict.

All tests share one shop, which is nobody else's, and one log of everything its customers were
told. A test repairs what it breaks; the verdict after it reads every store against the whole log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from month6_capstone.load import ClientLog
from month6_capstone.stack import Seed, Shop, start_shop
from month6_capstone.topology import SERVICES, SHARD_NAMES, environment
from scalelab.lab.runtime import Runtime, ServiceSpec
from tests.e2e.customer import settled_report, wait_until
from tests.e2e.month6.crowd import Answer, Buyer, Crowd, badly_answered, seeded_buyers
from tests.fixtures.tiers import Count

PRODUCTS = 40
BUYERS = 6
VICTIMS = (
    ("provider",),
    ("identity",),
    ("catalog",),
    ("inventory", "payments", "orders-worker"),
    ("orders",),
    ("gateway",),
)
"""Who is killed together. The three consumers are: their groups then wait out their sessions at
the same time."""

pytestmark = pytest.mark.timeout(3600)


@dataclass(frozen=True, slots=True)
class Bed:
    """A shop to break, its customers, and the log of what they were told."""

    shop: Shop
    buyers: list[Buyer]
    log_path: Path

    @property
    def runtime(self) -> Runtime:
        return self.shop.runtime

    @contextmanager
    def crowd(self) -> Iterator[Crowd]:
        """Customers who order as long as the block runs."""
        with (
            ClientLog(self.log_path) as log,
            Crowd(self.shop, self.buyers, log, PRODUCTS) as crowd,
        ):
            yield crowd

    def judge(self, answers: list[Answer], *, also: Collection[str] = ()) -> None:
        """Everything was said in the right form, and every store tells what was said."""
        report = settled_report(self.shop, self.log_path)
        assert report.balanced, report.violations
        assert report.checked["accepted_order_exists"] >= sum(a.status == 202 for a in answers)
        bad = badly_answered(answers, also=also)
        assert not bad, dict(bad)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """The shop as separate processes, and customers on both shards."""
    root = tmp_path_factory.mktemp("broken-shop")
    with Runtime(root, private=True) as runtime:
        shop = start_shop(runtime, seed=Seed(products=PRODUCTS, users=BUYERS, stock=100_000))
        buyers = seeded_buyers(BUYERS)
        assert {buyer.shard for buyer in buyers} == set(SHARD_NAMES)
        yield Bed(shop, buyers, root / "client.jsonl")


@pytest.fixture
def outage_s(count: Count) -> int:
    """How long a server is away."""
    return count(20, share=0.2)


@contextmanager
def away(runtime: Runtime, name: str, outage_s: float) -> Iterator[None]:
    """The server is stopped for the block, at least for `outage_s`; then it is back and ready."""
    began_s = time.monotonic()
    runtime.stop(name)
    try:
        yield
        time.sleep(max(0.0, began_s + outage_s - time.monotonic()))
    finally:
        runtime.restart(name)


@contextmanager
def hung(runtime: Runtime, name: str, outage_s: float) -> Iterator[None]:
    """The process is stopped by SIGSTOP for the block, at least for `outage_s`."""
    began_s = time.monotonic()
    runtime.pause(name)
    try:
        yield
        time.sleep(max(0.0, began_s + outage_s - time.monotonic()))
    finally:
        runtime.resume(name)


def test_orders_are_accepted_while_kafka_is_away(bed: Bed, outage_s: int) -> None:
    """Accepting an order needs no broker; what was accepted meanwhile ends when it is back."""
    with bed.crowd() as crowd:
        with away(bed.runtime, "kafka", outage_s):
            for shard in SHARD_NAMES:
                crowd.some_more(f"{shard} takes orders", lambda s=shard: crowd.accepted(s))
        crowd.some_more("orders go on", crowd.accepted)
    assert {a.status for a in crowd.answers if a.order} == {202}
    bed.judge(crowd.answers)


def test_browsing_and_ordering_go_on_while_redis_is_away(bed: Bed, outage_s: int) -> None:
    """Without Redis the gateway limits by itself and the catalogue reads its database."""
    with bed.crowd() as crowd:
        with away(bed.runtime, "redis", outage_s):
            crowd.some_more("pages are shown", crowd.browsed, more=10)
            crowd.some_more("orders are taken", crowd.accepted, more=10)
        crowd.some_more("orders go on", crowd.accepted)
    assert {a.status for a in crowd.answers} <= {200, 202}
    bed.judge(crowd.answers)


def test_a_dead_shard_takes_only_its_own_customers_with_it(bed: Bed, outage_s: int) -> None:
    """Its customers are told to come back, and all others order as before."""
    other, shard = SHARD_NAMES
    with bed.crowd() as crowd:
        with away(bed.runtime, shard, outage_s):
            before = crowd.accepted(shard)
            crowd.some_more("the other shard takes orders", lambda: crowd.accepted(other))
            crowd.some_more("its customers get answers", lambda: crowd.asked(shard), more=10)
            assert crowd.accepted(shard) <= before + BUYERS
        crowd.some_more("the shard takes orders again", lambda: crowd.accepted(shard))
    refused = {a.code for a in crowd.answers if a.order and a.shard == shard and a.status != 202}
    assert "shard_unavailable" in refused
    assert {a.status for a in crowd.answers if a.order and a.shard == other} == {202}
    bed.judge(crowd.answers)


def test_commits_go_on_alone_when_a_replica_stays_away(bed: Bed, outage_s: int) -> None:
    """They wait for the replica for the guard's limit, then for none; once it is back, they do."""
    shard, replica = SHARD_NAMES[0], f"{SHARD_NAMES[0]}-replica"
    wait_until("commits wait for the replica", lambda: waits_for_replica(bed.shop, shard))
    with bed.crowd() as crowd:
        with away(bed.runtime, replica, outage_s):
            wait_until("the guard relaxes", lambda: not waits_for_replica(bed.shop, shard))
            crowd.some_more("the shard takes orders", lambda: crowd.accepted(shard))
        wait_until("commits wait again", lambda: waits_for_replica(bed.shop, shard))
        crowd.some_more("orders go on", lambda: crowd.accepted(shard))
    assert {a.status for a in crowd.answers if a.order and a.shard != shard} == {202}
    bed.judge(crowd.answers)


def waits_for_replica(shop: Shop, shard: str) -> bool:
    """Whether a commit of the shard is acknowledged by a replica before it returns."""
    [dsn] = [one.primary_dsn for one in shop.addresses.shards if one.name == shard]
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("SELECT current_setting('synchronous_standby_names')").fetchone()
    assert row is not None
    return bool(row[0])


def test_a_hung_shard_answers_its_customers_and_spares_the_others(bed: Bed, outage_s: int) -> None:
    """A primary that takes connections and says nothing: every request is answered all the same,
    and the other shard takes orders meanwhile."""
    shard, other = SHARD_NAMES
    with bed.crowd() as crowd:
        with hung(bed.runtime, shard, outage_s):
            crowd.some_more("its customers get answers", lambda: crowd.asked(shard), more=10)
            crowd.some_more("the other shard takes orders", lambda: crowd.accepted(other))
        crowd.some_more("the shard takes orders again", lambda: crowd.accepted(shard))
    bed.judge(crowd.answers)


def test_frozen_workers_that_wake_up_do_nothing_twice(bed: Bed) -> None:
    """Payments and the orders worker freeze until others have taken over their work; when they
    wake, they still hold events that were carried out meanwhile."""
    frozen = {"payments": "payments", "orders-worker": "orders"}
    with spares(bed, frozen), bed.crowd() as crowd:
        with hung(bed.runtime, "payments", 0), hung(bed.runtime, "orders-worker", 0):
            for group in frozen.values():
                wait_until(f"{group} is put out", lambda g=group: members(bed.shop, g) == 1)
            crowd.some_more("orders are accepted", crowd.accepted)
        for group in frozen.values():
            wait_until(f"{group} is back", lambda g=group: members(bed.shop, g) == 2)
        crowd.some_more("orders go on", crowd.accepted, more=20)
    bed.judge(crowd.answers)


@contextmanager
def spares(bed: Bed, names: Collection[str]) -> Iterator[None]:
    """A second process of each of these, a member of the same consumer group."""
    specs: list[ServiceSpec] = []
    for name in names:
        port = bed.runtime.port(f"{name}-spare", 0)
        env = environment(name, bed.shop.addresses)
        env[f"{name.upper().replace('-', '_')}_PORT"] = str(port)
        argv = ("python", "-m", "month6_capstone", name)
        specs.append(ServiceSpec(f"{name}-spare", argv, port=port, env=env))
    bed.runtime.services(*specs)
    try:
        yield
    finally:
        for spec in specs:
            bed.runtime.stop(spec.name)


def members(shop: Shop, group: str) -> int:
    """How many processes are in the consumer group now."""

    async def ask() -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=shop.addresses.kafka_bootstrap)
        await admin.start()
        try:
            [answer] = await admin.describe_consumer_groups([group])
        finally:
            await admin.close()
        [described] = answer.to_object()["groups"]
        return len(described["members"])

    return asyncio.run(ask())


def test_every_process_may_be_killed(bed: Bed, count: Count) -> None:
    """SIGKILL in the middle of orders; each comes back by itself and the books balance."""
    assert {name for victims in VICTIMS for name in victims} == {*SERVICES, "gateway"}
    with bed.crowd() as crowd:
        for number in range(count(100, share=0.01 * len(VICTIMS))):
            victims = VICTIMS[number % len(VICTIMS)]
            before = {name: pid_of(bed.runtime, name) for name in victims}
            for name in victims:
                bed.runtime.kill(name)
            for name, pid in before.items():
                wait_until(f"{name} is back", lambda n=name, p=pid: is_back(bed.runtime, n, p))
            crowd.some_more("orders go on", crowd.accepted)
    bed.judge(crowd.answers, also={"no answer", "upstream_closed"})


def pid_of(runtime: Runtime, name: str) -> int | None:
    """The process of that name that runs and is ready."""
    for status in runtime.status():
        if status.name == name and status.state == "running":
            return status.pid
    return None


def is_back(runtime: Runtime, name: str, before: int | None) -> bool:
    """Another process of that name than `before` is ready."""
    pid = pid_of(runtime, name)
    return pid is not None and pid != before
