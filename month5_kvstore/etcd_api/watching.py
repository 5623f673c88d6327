"""One conversation of watchers: requests come in, events go out, each watcher at its own revision.

Theory of operation
    A watcher is a cursor into the store's journal and costs nothing while nothing changes. One loop
    serves a whole conversation: it says what was asked to be said, lets every watcher read on, then
    waits for the store, the caller or the clock. It holds no events: a caller that does not
    read stops the loop at its `yield`, and compaction ends watchers that are left too far behind.

Invariants (tests cite them)
    W1  A watcher hears each change of its interval once, in order, from its revision on; a revision
        is never split over two messages.
    W2  Progress is told only when every watcher has been given all changes up to that revision.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from month5_kvstore.etcd_api.answers import batches, event_message
from month5_kvstore.etcd_api.messages import WATCH_FILTERS
from month5_kvstore.etcd_api.schema import Message
from month5_kvstore.store import Event, EventKind, Interval, RevisionCompacted, Store

WATCHERS_MAX = 1000
"""Of one conversation; more are refused."""

_PENDING_MAX = 100
_MESSAGE_BYTES = 1 << 20
_NONE = -1


class Watched(Protocol):
    """What a conversation needs of a group."""

    @property
    def store(self) -> Store: ...
    @property
    def changed(self) -> asyncio.Event:
        """Set, and replaced by a new one, when the store has a new revision."""
        ...


@dataclass(slots=True)
class Watcher:
    """following: the revision to read next. told_s: when it last heard something."""

    number: int
    interval: Interval
    following: int
    unwanted: frozenset[EventKind]
    previous: bool
    progress: bool
    told_s: float


async def watching(
    requests: AsyncIterable[Message],
    driver: Watched,
    header: Callable[[], Message],
    *,
    progress_s: float,
) -> AsyncGenerator[Message, None]:
    """WatchResponses to WatchRequests, until closed: a caller that says no more still listens.

    Raises what reading the requests raises.
    """
    conversation = _Conversation(driver, header, progress_s)
    reader = asyncio.create_task(conversation.read(requests), name="watch-requests")
    try:
        while True:
            changed = driver.changed
            for message in conversation.say():
                yield message
            if reader.done():
                reader.result()
            if not conversation.behind:
                await conversation.wait(changed, reader)
    finally:
        reader.cancel()
        await asyncio.wait([reader])
        if not reader.cancelled():
            reader.exception()  # taken note of: it was raised above, or nobody listens any more


class _Conversation:
    def __init__(self, driver: Watched, header: Callable[[], Message], progress_s: float) -> None:
        self._driver = driver
        self._header = header
        self._progress_s = progress_s
        self._watchers: dict[int, Watcher] = {}
        self._next_number = 0
        self._pending: deque[Message] = deque()
        self._asks_progress = False
        self._spoken = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.behind = False

    async def read(self, requests: AsyncIterable[Message]) -> None:
        """Take up requests, as fast as they are answered."""
        async for request in requests:
            await self._room.wait()
            if "create_request" in request:
                self._create(request["create_request"])
            elif "cancel_request" in request:
                self._cancel(request["cancel_request"].get("watch_id", 0))
            elif "progress_request" in request:
                self._asks_progress = True
            if len(self._pending) >= _PENDING_MAX:
                self._room.clear()
            self._spoken.set()

    def say(self) -> Iterator[Message]:
        """What there is to say now. Sets `behind` if some watcher can read on at once."""
        self._spoken.clear()
        while self._pending:
            yield self._pending.popleft()
        self._room.set()
        self.behind = False
        for watcher in list(self._watchers.values()):
            if self._watchers.get(watcher.number) is watcher:  # not cancelled meanwhile
                yield from self._read_on(watcher)
        if not self.behind and self._asks_progress:
            self._asks_progress = False
            yield {"header": self._header(), "watch_id": _NONE}
        yield from self._tell_progress()

    async def wait(self, changed: asyncio.Event, reader: asyncio.Task[None]) -> None:
        """Until the store has changed, the caller has spoken, or a watcher is due to hear."""
        waits = [asyncio.create_task(one.wait()) for one in (changed, self._spoken)]
        watched: list[asyncio.Task[None] | asyncio.Task[bool]] = [*waits]
        if not reader.done():
            watched.append(reader)
        due = [one.told_s for one in self._watchers.values() if one.progress]
        left_s = max(0.0, min(due) + self._progress_s - _now_s()) if due else None
        try:
            await asyncio.wait(watched, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _create(self, request: Message) -> None:
        number = request.get("watch_id", 0)
        refusal = ""
        if number in self._watchers and number:
            refusal = "mvcc: duplicate watch ID provided on the WatchStream"
        elif len(self._watchers) >= WATCHERS_MAX:
            refusal = f"more than {WATCHERS_MAX} watchers in one conversation"
        if refusal:
            self._pending.append(
                self._message(_NONE, created=True, canceled=True, cancel_reason=refusal)
            )
            return
        if not number:
            while self._next_number in self._watchers:
                self._next_number += 1
            number = self._next_number
            self._next_number += (
                1  # a number is not given again: late events would be taken for its
            )
        start = request.get("start_revision", 0)
        unwanted = frozenset(_UNWANTED[WATCH_FILTERS[one]] for one in request.get("filters", []))
        self._watchers[number] = Watcher(
            number,
            _interval(request),
            start if start > 0 else self._driver.store.revision + 1,
            unwanted,
            request.get("prev_kv", False),
            request.get("progress_notify", False),
            _now_s(),
        )
        self._pending.append(self._message(number, created=True))

    def _cancel(self, number: int) -> None:
        if self._watchers.pop(number, None) is not None:
            self._pending.append(self._message(number, canceled=True))

    def _read_on(self, watcher: Watcher) -> Iterator[Message]:
        try:
            events, following = self._driver.store.events(watcher.following, watcher.interval)
        except RevisionCompacted as error:
            self._watchers.pop(watcher.number, None)
            # The oldest revision that a watcher may begin with.
            first = error.compacted + 1
            yield self._message(watcher.number, canceled=True, compact_revision=first)
            return
        self.behind = self.behind or following != watcher.following
        watcher.following = following
        wanted: list[Event] = [one for one in events if one.kind not in watcher.unwanted]
        for batch in batches(wanted, _MESSAGE_BYTES):
            told = [event_message(one, previous=watcher.previous) for one in batch]
            watcher.told_s = _now_s()
            yield self._message(watcher.number, events=told)

    def _tell_progress(self) -> Iterator[Message]:
        for watcher in list(self._watchers.values()):
            silent_s = _now_s() - watcher.told_s
            if watcher.progress and not self.behind and silent_s >= self._progress_s:
                watcher.told_s = _now_s()
                yield self._message(watcher.number)

    def _message(self, number: int, **fields: object) -> Message:
        return {"header": self._header(), "watch_id": number, **fields}


_UNWANTED = {"NOPUT": EventKind.PUT, "NODELETE": EventKind.DELETE}


def _interval(request: Message) -> Interval:
    """As of a range, but no key is the first one there can be."""
    key, end = request.get("key", b"") or b"\0", request.get("range_end", b"")
    if not end:
        return Interval(key)
    return Interval(key, b"" if end == b"\0" else end)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
