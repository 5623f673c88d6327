"""The command line of resharding, as a person or a script meets it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from month2_databases.resharding.__main__ import main

if TYPE_CHECKING:
    from tests.integration.month2.resharding.conftest import Shop

Run = Callable[..., Awaitable[tuple[int, Any, str]]]


@pytest.fixture
def run(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`await run(*arguments)`: exit code, the document, standard error."""
    servers = {name: server.dsn for name, server in shop.servers.items()}
    monkeypatch.setenv("RESHARD_MAPS", shop.maps_dsn)
    monkeypatch.setenv("RESHARD_SHARDS", json.dumps(servers))
    monkeypatch.setenv("RESHARD_TABLES", "account,entry:slot")
    monkeypatch.setenv("RESHARD_GRACE_S", "0")

    async def told(*arguments: str) -> tuple[int, Any, str]:
        code = await asyncio.to_thread(main, list(arguments))
        out, error = capsys.readouterr()
        return code, json.loads(out) if out else None, error

    return told


async def test_a_move_by_command_ends_with_the_map_saying_so(shop: Shop, run: Run) -> None:
    """init again changes nothing; move; status."""
    (slot,) = shop.slots_of("a", 1)
    await shop.open_account(shop.user_in(slot))
    code, before, _ = await run("init")
    assert (code, before["version"], before["owned_twice"]) == (0, 1, {})
    assert before["owners"] == before["claimed"] == {"a": "0-127", "b": "128-255"}
    code, moved, _ = await run("move", str(slot), "b")
    assert (code, moved["step"], moved["copied_rows"], moved["removed_rows"]) == (0, "done", 1, 1)
    assert moved["unwritable_s"] > 0
    _, after, _ = await run("status")
    assert after["owners"] == after["claimed"] == {"a": "1-127", "b": "0,128-255"}
    assert [(one["name"], one["step"]) for one in after["history"]] == [(moved["name"], "done")]
    _, again, _ = await run("init")
    assert again["claimed"] == after["claimed"]


async def test_a_mistake_is_said_with_its_code_and_changes_nothing(shop: Shop, run: Run) -> None:
    """Exit code 2, nothing on standard output."""
    for arguments, said in (
        (("move", "0-300", "b"), "invalid_input: slots: '0-300'"),
        (("move", "0,200", "b"), "invalid_input: the slots are on ['a', 'b']"),
        (("move", "0", "nowhere"), "shard_unknown"),
        (("move", "0"), "python -m month2_databases.resharding"),
        ((), "python -m month2_databases.resharding"),
        (("resume", "m9"), "move_unknown"),
        (("abort", "m9"), "move_unknown"),
    ):
        await shop.mover().journal.create()
        code, document, error = await run(*arguments)
        assert (code, document, said in error) == (2, None, True), error
    assert (await shop.store.current()).version == 1
