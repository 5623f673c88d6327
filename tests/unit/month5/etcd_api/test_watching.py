"""Conversations of watchers on a store in this process (W1, W2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from month5_kvstore.etcd_api.schema import Message
from month5_kvstore.etcd_api.watching import WATCHERS_MAX, watching
from month5_kvstore.store import (
    Compact,
    Delete,
    Envelope,
    Interval,
    Put,
    Store,
    Transaction,
    freeze,
    restore,
)
from month5_kvstore.store.commands import Command

pytestmark = pytest.mark.anyio
_WITHIN_S = 30.0


class Group:
    """A store, and word of its changes, as a group's driver gives it."""

    def __init__(self) -> None:
        self.store = Store()
        self.changed = asyncio.Event()

    def do(self, command: Command) -> None:
        self.store.execute(Envelope(0, command))
        self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Talk:
    """A conversation whose caller says what a test says."""

    def __init__(self, group: Group, progress_s: float = 3600.0) -> None:
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self.answers = watching(
            self._requests(),
            group,
            lambda: {"revision": group.store.revision},
            progress_s=progress_s,
        )

    async def _requests(self) -> AsyncGenerator[Message, None]:
        while True:
            yield await self._said.get()

    def create(self, key: bytes, **more: object) -> None:
        self._said.put_nowait({"create_request": {"key": key, **more}})

    def say(self, **request: Message) -> None:
        self._said.put_nowait(dict(request))

    async def hear(self) -> Message:
        async with asyncio.timeout(_WITHIN_S):
            return await anext(self.answers)


def changes(message: Message) -> list[tuple[int, bytes]]:
    return [(one["kv"]["mod_revision"], one["kv"]["key"]) for one in message["events"]]


async def test_every_change_is_heard_once_in_order_whatever_the_pace() -> None:
    group = Group()
    talk = Talk(group)
    async with aclosing(talk.answers):
        talk.create(b"a", range_end=b"z", start_revision=2)
        assert (await talk.hear())["created"]
        for number in range(350):
            group.do(Put(b"k%d" % (number % 7), b""))
        heard: list[tuple[int, bytes]] = []
        while len(heard) < 350:
            heard += changes(await talk.hear())
        group.do(Put(b"k", b""))
        heard += changes(await talk.hear())
    assert [revision for revision, _ in heard] == list(range(2, 353))


async def test_a_revision_is_never_split_over_two_messages() -> None:
    group = Group()
    for _ in range(3):
        group.do(Transaction((), tuple(Put(b"k%d" % n, bytes(400_000)) for n in range(4))))
    talk = Talk(group)
    async with aclosing(talk.answers):
        talk.create(b"k", range_end=b"l", start_revision=2)
        await talk.hear()
        heard = [changes(await talk.hear()) for _ in range(3)]
    assert [{revision for revision, _ in one} for one in heard] == [{2}, {3}, {4}]
    assert all(len(one) == 4 for one in heard)


async def test_a_watcher_goes_on_when_the_store_is_replaced_by_a_snapshot_of_it() -> None:
    group, ahead = Group(), Group()
    for one in (group, ahead):
        one.do(Put(b"k", b"1"))
    talk = Talk(group)
    async with aclosing(talk.answers):
        talk.create(b"k", start_revision=2)
        await talk.hear()
        assert changes(await talk.hear()) == [(2, b"k")]
        ahead.do(Put(b"k", b"2"))
        ahead.do(Delete(Interval(b"k")))
        group.store = restore(freeze(ahead.store).encode())
        group.tell()
        assert changes(await talk.hear()) == [(3, b"k"), (4, b"k")]


async def test_a_watcher_that_compaction_overtook_is_cancelled_and_the_others_go_on() -> None:
    group = Group()
    for _ in range(5):
        group.do(Put(b"k", b""))
    group.do(Compact(4))
    talk = Talk(group)
    async with aclosing(talk.answers):
        talk.create(b"k", start_revision=2)
        talk.create(b"k", start_revision=5)
        assert [(await talk.hear())["created"] for _ in range(2)] == [True, True]
        cancelled = await talk.hear()
        assert (cancelled["canceled"], cancelled["compact_revision"]) == (True, 5)
        heard = await talk.hear()
    assert (heard["watch_id"], changes(heard)) == (1, [(5, b"k"), (6, b"k")])


async def test_silence_is_broken_by_progress_where_that_was_wanted() -> None:
    group = Group()
    talk = Talk(group, progress_s=0.05)
    async with aclosing(talk.answers):
        talk.create(b"silent")
        talk.create(b"asks", progress_notify=True)
        assert [(await talk.hear())["watch_id"] for _ in range(2)] == [0, 1]
        group.do(Put(b"other", b""))
        told = await talk.hear()
        while told["header"]["revision"] < 2:
            told = await talk.hear()
    assert (told["watch_id"], "events" in told) == (1, False)


async def test_progress_comes_after_every_change_before_it() -> None:
    group = Group()
    for _ in range(250):
        group.do(Put(b"k", b""))
    talk = Talk(group)
    async with aclosing(talk.answers):
        talk.create(b"k", start_revision=2)
        talk.say(progress_request={})
        await talk.hear()
        heard = 0
        while "events" in (told := await talk.hear()):
            heard += len(told["events"])
    assert (told["watch_id"], heard) == (-1, 250)


async def test_a_conversation_holds_a_bounded_number_of_watchers() -> None:
    talk = Talk(Group())
    async with aclosing(talk.answers):
        for _ in range(WATCHERS_MAX + 1):
            talk.create(b"k")
        told = [await talk.hear() for _ in range(WATCHERS_MAX + 1)]
    assert [one.get("canceled", False) for one in told] == [False] * WATCHERS_MAX + [True]


async def test_watchers_come_and_go_while_events_go_out_and_no_number_is_given_twice() -> None:
    group = Group()
    talk = Talk(group)
    async with aclosing(talk.answers):
        for _ in range(3):
            talk.create(b"k")
        for _ in range(3):
            await talk.hear()
        group.do(Put(b"k", b""))
        told = [await talk.hear()]
        talk.say(cancel_request={"watch_id": 2})
        talk.create(b"k", start_revision=2)
        while not (told[-1]["watch_id"] == 3 and "events" in told[-1]):
            told.append(await talk.hear())
    kinds = [(one["watch_id"], "events" in one) for one in told]
    assert sorted({kind for kind in kinds if kind[1]} | {(2, True)}) == [
        (n, True) for n in range(4)
    ]
    assert len(set(kinds)) == len(kinds)
    assert (2, True) not in kinds[kinds.index((2, False)) :]


async def test_a_watcher_that_is_cancelled_between_two_messages_hears_no_more() -> None:
    group = Group()
    talk = Talk(group)
    async with aclosing(talk.answers):
        for _ in range(2):
            talk.create(b"k")
        for _ in range(2):
            await talk.hear()
        group.do(Put(b"k", b""))
        assert (await talk.hear())["watch_id"] == 0
        talk.say(cancel_request={"watch_id": 1})
        for _ in range(5):
            await asyncio.sleep(0)  # the reader's turn
        told = await talk.hear()
    assert (told["watch_id"], told.get("canceled"), "events" in told) == (1, True, False)
