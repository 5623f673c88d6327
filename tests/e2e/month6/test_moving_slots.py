"""Slots of the running shop's orders change their shard, there and back, while customers order."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from month2_databases.resharding import shards_and_moves
from month3_messaging.orders import MOVING_TABLES
from month6_capstone.load import ClientLog
from month6_capstone.stack import Shop, mover_settings
from month6_capstone.topology import SHARD_NAMES
from scalelab.hashing import slot_for_key
from tests.e2e.customer import Customer, settled_report
from tests.e2e.month6.crowd import Crowd, badly_answered, seeded_buyers
from tests.fixtures.shop import CUSTOMERS, LOGGED, PRODUCTS
from tests.fixtures.tiers import Count

PROJECT = Path(__file__).parents[3]
HOME, OTHER = SHARD_NAMES
END = 128
"""The first shard of a new shop has the slots below."""
CROWD = 8
MOVING = "on moving slots"
"""Stands in place of the shard of those customers whose orders move."""

pytestmark = pytest.mark.timeout(600)


def move(shop: Shop, slots: str, target: str) -> dict[str, Any]:
    """As a person does it: in a process of its own, which shares no interpreter with the crowd."""
    settings = mover_settings(shop.runtime.root).model_copy(update={"grace_s": 1.0})
    told = settings.model_dump() | {"shards": json.dumps(settings.shards)}
    done = subprocess.run(
        [sys.executable, "-m", "month2_databases.resharding", "move", slots, target],
        env={**os.environ, **{f"RESHARD_{name.upper()}": str(told[name]) for name in told}},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def rows_on(shop: Shop, shard: str, first: int) -> dict[str, int]:
    """By table, how many rows of the slots from `first` to the END a shard has."""
    found: dict[str, int] = {}
    dsn = next(one.primary_dsn for one in shop.addresses.shards if one.name == shard)
    with psycopg.connect(dsn) as conn:
        for table in MOVING_TABLES:
            query = f"SELECT count(*) FROM {table} WHERE slot >= %s AND slot < %s OR slot IS NULL"
            row = conn.execute(query.encode(), (first, END)).fetchone()
            found[table] = row[0] if row else -1
    return found


def test_slots_move_there_and_back_while_customers_order(
    shop: Shop, tmp_path: Path, count: Count
) -> None:
    """Nothing is lost or doubled, every order ends, and a key is answered as it was before."""
    first = END - count(END, share=0.125)
    slots = f"{first}-{END - 1}"
    buyers = [
        replace(one, shard=MOVING) if first <= slot_for_key(one.user_id) < END else one
        for one in seeded_buyers(CUSTOMERS)
        if one.number in LOGGED
    ]
    buyers = sorted(buyers, key=lambda one: one.shard != MOVING)[:CROWD]
    moved = next(one for one in buyers if one.shard == MOVING)
    buyers.remove(moved)  # what this one does is not in the crowd's log
    mover = Customer.signed_in(shop, moved.number)
    key = f"before-{uuid4()}"
    placed = mover.place(key=key)
    assert placed.status_code == 202, placed.text
    log_path = tmp_path / "client.jsonl"
    with ClientLog(log_path) as log, Crowd(shop, buyers, log, PRODUCTS) as crowd:
        crowd.some_more("who will move orders", lambda: crowd.accepted(MOVING), more=1)
        there = move(shop, slots, OTHER)
        assert (there["step"], there["reason"]) == ("done", "")
        assert set(rows_on(shop, HOME, first).values()) == {0}
        assert all(rows_on(shop, OTHER, first).values())
        crowd.some_more("who moved goes on ordering", lambda: crowd.accepted(MOVING))
        again = mover.place(key=key)
        assert again.status_code == 202, again.text
        assert again.json()["order_id"] == placed.json()["order_id"]
        read = mover.read(placed.json()["order_id"], placed.headers["X-Consistency-Token"])
        assert (read.status_code, read.headers["X-Shard"]) == (200, OTHER)
        back = move(shop, slots, HOME)
        assert (back["step"], back["reason"]) == ("done", "")
        crowd.some_more("who came back goes on ordering", lambda: crowd.accepted(MOVING))
    report = settled_report(shop, log_path)
    assert report.balanced, report.violations
    assert report.checked["accepted_order_exists"] >= crowd.accepted()
    assert set(rows_on(shop, OTHER, first).values()) == {0}
    bad = badly_answered(crowd.answers, also={"slot_fenced", "stale_shard_map"})
    assert not bad, dict(bad)
    told = asyncio.run(shards_and_moves(mover_settings(shop.runtime.root)))
    assert told["claimed"] == {HOME: f"0-{END - 1}", OTHER: f"{END}-255"}
    assert told["owned_twice"] == {}
