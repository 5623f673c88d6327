"""One of three real processes is killed, frozen, slow, or answers badly: what clients see."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from month1_caching_gateway.balancing import Budget, HealthPolicy, OutlierPolicy
from month1_caching_gateway.gateway.settings import Retries
from scalelab.lab.runtime import Runtime
from tests.integration.month1.balancing.nodes import (
    NodeProcess,
    ask_all,
    done_by_all,
    in_front_of,
)
from tests.integration.month1.gateway.harness import Running, client, until

OUTLIER = OutlierPolicy(consecutive=3, base_ejection_s=300.0, max_ejection_s=300.0)
RETRIES = Retries(limit=2, per_try_s=0.5, budget=Budget(burst=50.0))
FAULTS = ("killed", "frozen", "slow", "garbage", "unavailable", "hang-up")


def break_it(stack: Runtime, node: NodeProcess, fault: str) -> None:
    """Let the fault begin."""
    if fault == "killed":
        stack.kill(node.name)
    elif fault == "frozen":
        stack.pause(node.name)
    else:
        node.misbehave(fault)


def available(gateway: Running, node: NodeProcess) -> bool:
    """Whether the gateway would pick it."""
    label = f"app/127.0.0.1:{node.port}"
    return gateway.metric("gateway_endpoint_available", endpoint=label) == 1.0


def met(node: NodeProcess) -> list[str]:
    """The requests of a test's frozen time that reached the node."""
    return [line for line in node.did() if "/frozen/" in line]


@pytest.mark.parametrize("fault", FAULTS)
async def test_idempotent_calls_all_succeed_when_one_of_three_fails(
    stack: Runtime, nodes: list[NodeProcess], fault: str
) -> None:
    """Reads, and writes that carry a key or are idempotent by method: each gets a good answer."""
    sick = nodes[1]
    async with in_front_of(nodes, outlier=OUTLIER, retries=RETRIES) as gateway:
        await ask_all(gateway, "GET", [f"/before/{n}" for n in range(12)])
        await asyncio.to_thread(break_it, stack, sick, fault)
        answers = {
            **await ask_all(gateway, "GET", [f"/get/{n}" for n in range(40)]),
            **await ask_all(gateway, "PUT", [f"/put/{n}" for n in range(20)]),
            **await ask_all(
                gateway, "POST", [f"/post/{n}" for n in range(20)], idempotency_key="k"
            ),
        }
        names = {node.name.encode() for node in nodes}
        assert {got.status for got in answers.values()} == {200}
        assert {got.body for got in answers.values()} <= names
        done = done_by_all(nodes)
        assert all(any(done[f"{m} {target}"] for m in ("GET", "PUT", "POST")) for target in answers)
        if fault not in ("slow", "killed"):
            assert not available(gateway, sick)
            later = await ask_all(gateway, "GET", [f"/later/{n}" for n in range(12)])
            assert sick.name.encode() not in {got.body for got in later.values()}


@pytest.mark.parametrize("fault", ["killed", "garbage", "unavailable", "hang-up"])
async def test_what_may_not_be_repeated_is_not(
    stack: Runtime, nodes: list[NodeProcess], fault: str
) -> None:
    """POST without a key: done at most once, and exactly once where the answer says so."""
    async with in_front_of(nodes, outlier=OUTLIER, retries=RETRIES) as gateway:
        await ask_all(gateway, "POST", [f"/before/{n}" for n in range(12)])
        await asyncio.to_thread(break_it, stack, nodes[1], fault)
        answers = await ask_all(gateway, "POST", [f"/post/{n}" for n in range(40)])
        done = done_by_all(nodes)
        for target, got in answers.items():
            assert done[f"POST {target}"] <= 1
            if got.status == 200:
                assert done[f"POST {target}"] == 1
        assert sum(got.status == 200 for got in answers.values()) >= 30


async def test_a_frozen_endpoint_costs_few_requests_their_try_and_is_sent_away(
    stack: Runtime, nodes: list[NodeProcess]
) -> None:
    """Asked one after the other, exactly three requests meet it; thawed, it has seen no others."""
    patient = replace(RETRIES, per_try_s=1.0)
    sick = nodes[1]
    async with in_front_of(nodes, outlier=OUTLIER, retries=patient) as gateway:
        await ask_all(gateway, "GET", [f"/before/{n}" for n in range(6)], callers=1)
        await asyncio.to_thread(stack.pause, sick.name)
        answers = await ask_all(gateway, "GET", [f"/frozen/{n}" for n in range(30)], callers=1)
        assert {got.status for got in answers.values()} == {200}
        assert not available(gateway, sick)
        await asyncio.to_thread(stack.resume, sick.name)
        await until(lambda: len(met(sick)) >= OUTLIER.consecutive)
        await asyncio.to_thread(sick.misbehave, "ok")  # it has read what lay in its sockets
        assert len(met(sick)) == OUTLIER.consecutive


async def test_a_refused_connection_fails_nobody_not_even_a_post(
    stack: Runtime, nodes: list[NodeProcess]
) -> None:
    """Nothing was sent, so the next endpoint gets it: every POST succeeds, each done once."""
    async with in_front_of(nodes) as gateway:
        stack.kill(nodes[1].name)
        answers = await ask_all(gateway, "POST", [f"/post/{n}" for n in range(20)])
        assert {got.status for got in answers.values()} == {200}
        assert set(done_by_all(nodes).values()) == {1}


async def test_checks_find_a_dead_endpoint_without_any_request_and_see_it_return(
    stack: Runtime, nodes: list[NodeProcess]
) -> None:
    """Killed: away by checks alone. Restarted: back by checks alone, and asked again."""
    health = HealthPolicy(interval_s=0.05, timeout_s=10.0, fall=2, rise=2)
    async with in_front_of(nodes, health=health, outlier=None) as gateway:
        await until(lambda: all(available(gateway, node) for node in nodes))
        await asyncio.to_thread(stack.kill, nodes[1].name)
        await until(lambda: not available(gateway, nodes[1]))
        await asyncio.to_thread(stack.restart, nodes[1].name)
        await until(lambda: available(gateway, nodes[1]))
        answers = await ask_all(gateway, "GET", [f"/get/{n}" for n in range(12)])
        assert nodes[1].name.encode() in {got.body for got in answers.values()}


async def test_a_rolling_restart_under_load_fails_no_request(
    stack: Runtime, nodes: list[NodeProcess]
) -> None:
    """Three processes restarted in turn: every GET and every POST is answered 200, done once."""
    health = HealthPolicy(interval_s=0.05, timeout_s=10.0, fall=1, rise=1)
    done: dict[str, int] = {}
    restarted = asyncio.Event()

    async def load(method: str, caller: int) -> None:
        async with client(gateway.port) as http:
            number = 0
            while not restarted.is_set():
                target = f"/{method}/{caller}/{number}".lower()
                got = await http.ask(method, target, None if method == "GET" else b"{}")
                done[f"{method} {target}"] = got.status
                number += 1
                await asyncio.sleep(0.002)

    async with in_front_of(nodes, health=health) as gateway, asyncio.TaskGroup() as group:
        await until(lambda: all(available(gateway, node) for node in nodes))
        for caller in range(2):
            group.create_task(load("GET", caller))
            group.create_task(load("POST", caller))
        for node in nodes:
            await asyncio.to_thread(stack.restart, node.name)
            await until(lambda node=node: available(gateway, node))
        restarted.set()
    assert set(done.values()) == {200}
    effects = done_by_all(nodes)
    posts = [target for target in done if target.startswith("POST")]
    assert posts
    assert {effects[target] for target in posts} == {1}
