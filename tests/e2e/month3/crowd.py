"""Orders for the month's stack, killed processes meanwhile, and what the books say afterwards."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

from typer.testing import CliRunner

from month3_messaging.commands import app
from month3_messaging.orderload import Placed, follow, place_orders
from month3_messaging.stack import Stack, key_path
from month3_messaging.topology import TOKEN_AUDIENCE, TOKEN_ISSUER
from scalelab.clients.http import HttpClient
from scalelab.clock import SystemClock
from scalelab.issuer import demo_token
from scalelab.lab.cli.place import Place
from tests.e2e.month3.conftest import PRODUCTS

WITHIN_S = 150.0


def told(root: Path, *words: str) -> Any:
    """The document of a command of the month. Raises what the command ended with."""
    line = ["month3", *words, "--json"]
    result = CliRunner().invoke(app, line, obj=Place(root, tuple(line)))
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


def token_of(stack: Stack, subject: str, scope: str = "shop") -> str:
    """A token that the stack's services believe."""
    return demo_token(
        key_path(stack.runtime.root),
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        subject=subject,
        scopes=[scope],
        ttl_s=3600.0,
        clock=SystemClock(),
    )


async def books(stack: Stack) -> dict[str, int]:
    """What the partners kept."""
    async with HttpClient(stack.addresses.url("partners"), timeout_s=30.0) as http:
        return (await http.get("/internal/v1/books")).json()


async def carry_out(
    stack: Stack, http: HttpClient, subject: str, number: int, *, kill: tuple[str, ...] = ()
) -> tuple[Placed, dict[str, int]]:
    """Place orders, kill processes once a third has been placed, follow all to their ends.

    Returns the orders and how much the books grew by them.
    """
    before = await books(stack)
    seen, third = 0, asyncio.Event()

    def one_more() -> None:
        nonlocal seen
        seen += 1
        if seen * 3 >= number:
            third.set()

    async def killing() -> None:
        await third.wait()
        for name in kill:
            await asyncio.to_thread(stack.runtime.kill, name)

    bearer = token_of(stack, subject)
    async with asyncio.TaskGroup() as group:
        group.create_task(killing())
        placing = group.create_task(
            place_orders(http, bearer, number, products=PRODUCTS, random=Random(1), told=one_more)
        )
    placed = placing.result()
    await follow(http, bearer, placed, within_s=WITHIN_S)
    after = await books(stack)
    return placed, {name: after[name] - before[name] for name in after}
