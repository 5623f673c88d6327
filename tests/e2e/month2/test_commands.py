"""The month's commands on a running stack, as a person or a program calls them."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from month2_databases.commands import app
from month2_databases.orderload import place_orders
from month2_databases.sharding import DecisionRegister, TwoPhase
from month2_databases.stack import Stack, read_description
from month2_databases.topology import DATABASE, PRIMARIES, SHARDS
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.lab.cli.outcome import CommandFailed, Exit
from scalelab.lab.cli.place import Place

pytestmark = pytest.mark.timeout(240)


def call(root: Path, *words: str) -> Result:
    """Run one command as from the command line."""
    return CliRunner().invoke(app, ["month2", *words], obj=Place(root, words))


def told(root: Path, *words: str) -> Any:
    """The document of a command that ends well."""
    result = call(root, *words, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def refused(root: Path, *words: str) -> CommandFailed:
    """How a command ends that does not end well."""
    result = call(root, *words)
    assert isinstance(result.exception, CommandFailed), result.exception or result.output
    return result.exception


def test_all_shards_come_back_as_they_were_at_the_point_of_a_backup(
    stack: Stack, lab_root: Path
) -> None:
    """Orders placed after it are not in the copies, and the originals have them still."""
    asyncio.run(place_orders(stack.url, 60, 30))
    before = {name: orders_on(stack, name) for name in PRIMARIES}
    point = told(lab_root, "backup")["point"]
    asyncio.run(place_orders(stack.url, 60, 30))
    restored = told(lab_root, "restore", "--point", point)["shards"]
    assert {name: one["orders"] for name, one in restored.items()} == before
    assert sum(orders_on(stack, name) for name in PRIMARIES) == sum(before.values()) + 60
    checked = told(lab_root, "verify")["files"]
    assert all(number >= 3 for number in checked.values()), checked


@pytest.mark.usefixtures("stack")
def test_a_backup_leaves_as_many_as_it_was_told_to_keep(lab_root: Path) -> None:
    """Of one primary; what stays verifies."""
    earlier = told(lab_root, "backup", "--shard", SHARDS[1])["shards"][SHARDS[1]]["id"]
    taken = told(lab_root, "backup", "--shard", SHARDS[1], "--keep", "1")["shards"][SHARDS[1]]
    assert taken["removed"][-1] == earlier
    assert taken["freed_bytes"] > 0
    pruned = told(lab_root, "prune", "--shard", SHARDS[1], "--keep", "1")["shards"]
    assert pruned == {SHARDS[1]: {"removed": [], "freed_bytes": 0}}
    assert told(lab_root, "verify", "--shard", SHARDS[1])["files"][SHARDS[1]] >= 3


def test_a_drill_loses_nothing_and_stands_in_the_history(stack: Stack, lab_root: Path) -> None:
    """Run once, shown twice; the copy's folder is gone."""
    copies = f"{SHARDS[1]}-at-*"
    before = sorted(stack.runtime.data.glob(copies))  # a restore's copies stay
    drills = told(lab_root, "drill", "--shard", SHARDS[1], "--rows", "300")["drills"]
    assert (drills[-1]["lost_rows"], drills[-1]["matches"]) == (0, True)
    assert told(lab_root, "drill", "--history")["drills"] == drills
    assert "passed" in call(lab_root, "drill", "--history").stdout
    assert sorted(stack.runtime.data.glob(copies)) == before


def test_a_slot_that_belongs_to_nobody_is_told(stack: Stack, lab_root: Path) -> None:
    """The replicas' own have an owner each."""
    with psycopg.connect(stack.servers["shard-2"].superuser_dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_create_physical_replication_slot('left_behind', true)")
        try:
            shown = told(lab_root, "slots")
        finally:
            connection.execute("SELECT pg_drop_replication_slot('left_behind')")
    owners = {one["slot"]: one["owner"] for one in shown["shard-0"]["slots"]}
    assert owners["shard_0_r1"] == "replica shard-0-r1"
    alerts = [(one["slot"], one["trouble"]) for one in shown["shard-2"]["alerts"]]
    assert alerts == [("left_behind", "no_owner")]


class CoordinatorDied(Exception):
    """Between the two phases."""


def test_a_transaction_whose_coordinator_died_is_listed_and_ended(
    stack: Stack, lab_root: Path
) -> None:
    """Prepared on two shards, decided nowhere: `recover` aborts it on both."""
    tx = asyncio.run(prepared_and_left(stack))
    assert told(lab_root, "in-doubt")[tx] == list(SHARDS)
    assert told(lab_root, "recover", "--older-than", "3600") == {}
    assert told(lab_root, "recover", "--older-than", "0") == {tx: "abort"}
    assert told(lab_root, "in-doubt") == {}


def test_every_shard_has_the_order_books_schema(stack: Stack, lab_root: Path) -> None:
    """All revisions are in phases that the command knows."""
    assert stack.links
    report = told(lab_root, "migrate", "--phase", "contract")
    assert set(report["versions"]) == set(PRIMARIES)
    assert len(set(report["versions"].values())) == 1
    assert report["complete"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("restore", "--to", "yesterday"), "invalid_input"),
        (("restore", "--to", "2026-03-01T12:00:00"), "target_without_zone"),
        (("restore", "--shard", "shard-9"), "invalid_input"),
        (("restore", "--to", "2026-01-01T00:00:00Z", "--point", "p"), "invalid_input"),
        (("drill", "--shard", "shard-9"), "invalid_input"),
        (("migrate", "--phase", "later"), "invalid_input"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(
    stack: Stack, lab_root: Path, words: tuple[str, ...], code: str
) -> None:
    """Nothing is made before it is refused."""
    before = sorted(stack.runtime.data.iterdir())
    assert f"({code})" in refused(lab_root, *words).message
    assert sorted(stack.runtime.data.iterdir()) == before


@pytest.mark.parametrize("command", ["backup", "restore", "verify", "drill", "slots", "recover"])
def test_without_a_stack_a_command_says_how_to_start_one(tmp_path: Path, command: str) -> None:
    refusal = refused(tmp_path, command)
    assert (refusal.exit_code, "./lab up month2" in refusal.message) == (Exit.USAGE, True)


def orders_on(stack: Stack, shard: str) -> int:
    """Counted on the primary itself."""
    with psycopg.connect(stack.servers[shard].superuser_dsn(DATABASE)) as connection:
        row = connection.execute("SELECT count(*) FROM orders").fetchone()
    assert row is not None
    return row[0]


async def prepared_and_left(stack: Stack) -> str:
    """A transaction over both shards whose coordinator dies once they have prepared; its id."""

    async def die(step: str) -> None:
        raise CoordinatorDied(step)

    known = read_description(stack.runtime.root)
    async with AsyncExitStack() as opened:
        databases = {
            name: await opened.enter_async_context(Database(PostgresSettings(dsn), name=name))
            for name, dsn in known["superusers"].items()
            if name in SHARDS
        }
        register = await opened.enter_async_context(
            Database(PostgresSettings(known["maps"]["shard-map"]), name="decisions")
        )
        coordinator = TwoPhase(
            databases, DecisionRegister(register), SystemClock(), checkpoint=die, timeout_s=30.0
        )
        begun: list[str] = []
        with pytest.raises(CoordinatorDied):
            await _transaction(coordinator, begun)
    return begun[0]


async def _transaction(coordinator: TwoPhase, begun: list[str]) -> None:
    async with coordinator.transaction(SHARDS) as work:
        begun.append(str(work.tx))
        for name in SHARDS:
            await work[name].execute("SELECT pg_current_xact_id()")
