"""The log for asyncio: a thread of its own writes, everybody who appends waits for their flush.

The loop decides what goes into the next flush (`GroupCommit`); the thread only writes and syncs.
The next flush is begun before those of the last one are woken, so that the disk does not wait for
them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Self

from month5_kvstore.log.disk import Disk
from month5_kvstore.log.errors import DiskFull, LogStopped
from month5_kvstore.log.group_commit import GroupCommit
from month5_kvstore.log.group_trail import Submission
from month5_kvstore.log.segmented_log import FULL_DISK, Refusal, SegmentedLog
from month5_kvstore.log.snapshot_files import write_snapshot
from month5_kvstore.raft import Entry, HardState, Snapshot
from scalelab.errors import ScalelabError

_RECORD_BYTES = 64

_Waiting = tuple[Submission, "asyncio.Future[None]"]
_Outcome = list[Refusal | None] | BaseException


class LogWriter:
    """Appends to an open log, which it closes at the end. An async context manager; one loop.

    disk: the one the log was opened on; snapshots are written to it beside the log.
    """

    def __init__(
        self, log: SegmentedLog, disk: Disk, *, queue: GroupCommit[_Waiting] | None = None
    ) -> None:
        self.log = log
        self._disk = disk
        self._queue: GroupCommit[_Waiting] = queue or GroupCommit()
        self._work: SimpleQueue[list[_Waiting] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what waits, then end the thread and close the log."""
        await self._idle.wait()
        self._fail(self._queue.stop("the log was closed"), LogStopped("the log was closed"))
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        self.log.close()

    async def append(
        self,
        group: int,
        entries: Sequence[Entry] = (),
        hard_state: HardState | None = None,
    ) -> None:
        """Return when entries and hard state are on the disk, both or neither.

        Appends of one group reach the disk in the order of the calls. Entries replace what the
        group has from their first index on. Raises DiskFull, LogQueueFull: nothing was written,
        nor was what this writer was given later. Raises LogStopped: unknown until the next
        opening. Raises InvalidInput for an entry over its limit, InvariantBroken for what a Raft
        log can never hold; nothing was written.
        A cancelled call may have its effect.
        """
        await self.submit(Submission(group, entries, hard_state))

    async def save_snapshot(
        self,
        group: int,
        snapshot: Snapshot,
        *,
        resets: bool = False,
        hard_state: HardState | None = None,
    ) -> None:
        """Put a snapshot in place of the group's entries up to its index; return when it is.

        resets: it came from a leader and no entry stays. Raises as `append` does; the log and
        the snapshot before stay as they are. One call a group at a time.
        """
        try:
            mark = await asyncio.to_thread(
                write_snapshot, self._disk, group, snapshot, resets=resets
            )
        except OSError as error:
            if error.errno in FULL_DISK:
                raise DiskFull("the disk is full; there is no room for a snapshot") from error
            raise self._stop(LogStopped(f"the disk failed at a snapshot: {error}")) from error
        await self.submit(Submission(group, (), hard_state, mark))

    def submit(self, submission: Submission) -> asyncio.Future[None]:
        """Take a submission now; the future is done when it is on the disk. Raises LogQueueFull,
        LogStopped."""
        loop = self._loop
        if loop is None:
            raise LogStopped("the log's writer was not entered")
        done: asyncio.Future[None] = loop.create_future()
        size = sum(len(entry.data) + _RECORD_BYTES for entry in submission.entries)
        self._queue.offer((submission, done), size + _RECORD_BYTES)
        self._flush_next()
        return done

    def _flush_next(self) -> None:
        batch = self._queue.next_batch()
        if batch:
            self._idle.clear()
            self._work.put(batch)

    def _write(self) -> None:
        """The thread: one batch after another until None."""
        loop = self._loop
        assert loop is not None
        while (batch := self._work.get()) is not None:
            outcome: _Outcome
            try:
                outcome = self.log.persist([submission for submission, _ in batch])
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                outcome = error
            loop.call_soon_threadsafe(self._flushed, batch, outcome)

    def _flushed(self, batch: list[_Waiting], outcome: _Outcome) -> None:
        self._queue.flushed()
        if isinstance(outcome, BaseException):
            # What waits was decided on top of what was refused: it may not go first.
            refused = outcome if isinstance(outcome, DiskFull) else self._stop(outcome)
            self._fail([*batch, *self._queue.drain()], refused)
            self._idle.set()
            return
        self._flush_next()
        if not self._queue.is_flushing:
            self._idle.set()
        for (_, done), error in zip(batch, outcome, strict=True):
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def _stop(self, error: BaseException) -> ScalelabError:
        stopped = error if isinstance(error, LogStopped) else LogStopped(repr(error))
        self.log.stop(stopped.message)
        self._fail(self._queue.stop(stopped.message), stopped)
        return stopped

    def _fail(self, waiting: Sequence[_Waiting], error: ScalelabError) -> None:
        for _, done in waiting:
            if not done.done():
                done.set_exception(error)
