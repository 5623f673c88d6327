"""A node: all groups over one log and one connection to each peer, and the way to a group's leader.

    async with Node.open(config, ...) as node:
        answer = await node.execute(group, command, deadline_s=5)
        found = await node.read(group, query, deadline_s=5)

A command that reaches a follower goes on to the leader it knows. It is sent again only if it was
certainly not carried out; else the caller hears `OutcomeUnknown` and asks again under its session.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from month5_kvstore.log import LogWriter, PosixDisk, SegmentedLog
from month5_kvstore.node.group_driver import GroupDriver
from month5_kvstore.node.peer_frames import Ask, Frame, Routed, Told, TurnedAway
from month5_kvstore.node.peer_links import PeerLinks
from month5_kvstore.node.placement import GROUPS
from month5_kvstore.raft import Message, NotLeader, Settings
from month5_kvstore.store import Answer, Command, Found, Range, check, check_range
from scalelab.clock import Clock
from scalelab.errors import (
    InvalidInput,
    InvariantBroken,
    OutcomeUnknown,
    Retryable,
    ScalelabError,
    Unavailable,
)
from scalelab.security.kept_secrets import write_whole
from scalelab.telemetry import Log

_PEERS_FILE = "peers.json"
_AGAIN_S = 0.02
_READ_AGAIN_S = 0.5
_PINNED_SEGMENTS = 4


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """peers: node id to host and port for all nodes, this one among them. folder: of the log.

    tick_ms: unit of Raft's patience. snapshot_entries, history: see `GroupDriver`.
    """

    cluster_id: str
    node_id: int
    folder: Path
    peers: Mapping[int, tuple[str, int]]
    tick_ms: int = 50
    snapshot_entries: int = 10_000
    history: int = 10_000
    segment_bytes: int = 64 << 20
    raft: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.node_id not in self.peers:
            raise InvalidInput(f"node {self.node_id} is not among its peers", field="peers")


@dataclass(frozen=True, slots=True)
class Tag:
    """Names a command in its session, so that it is carried out once however often it is sent."""

    session: int = 0
    sequence: int = 0
    acknowledged_below: int = 0


NO_TAG = Tag()


class Node:
    """Made by `open`. groups: by number."""

    def __init__(
        self,
        config: NodeConfig,
        writer: LogWriter,
        clock: Clock,
        log: Log,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.config = config
        self._on_fatal = on_fatal
        self._clock = clock
        self._log = log
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._next_ask = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer = writer
        self.links = PeerLinks(
            writer.log.identity,
            GROUPS,
            {peer: at for peer, at in config.peers.items() if peer != config.node_id},
            known=_known_peers(config.folder),
            remember=lambda known: _remember_peers(config.folder, known),
            receive=self._receive,
            log=log,
        )
        voters = tuple(sorted(config.peers))
        self.groups = [
            GroupDriver(
                group,
                config.node_id,
                config.raft,
                writer.log.groups.get(group),
                voters,
                writer=writer,
                send=self._sender(group),
                random=Random(f"{writer.log.identity.store_id}/{group}"),
                clock=clock,
                snapshot_entries=config.snapshot_entries,
                history=config.history,
            )
            for group in range(GROUPS)
        ]
        writer.log.groups.clear()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: NodeConfig,
        *,
        clock: Clock,
        log: Log,
        on_fatal: Callable[[BaseException], None],
    ) -> AsyncGenerator[Node, None]:
        """A running node. on_fatal: hears why it cannot go on; the process must end then.

        Raises what `SegmentedLog.open` raises, CorruptData for a damaged snapshot.
        """
        disk = PosixDisk(config.folder)
        opened = SegmentedLog.open(
            disk,
            cluster_id=config.cluster_id,
            node_id=config.node_id,
            segment_bytes=config.segment_bytes,
        )
        async with LogWriter(opened, disk) as writer:
            node = cls(config, writer, clock, log, on_fatal)
            host, port = config.peers[config.node_id]
            tasks = [
                asyncio.create_task(node.links.run(host, port), name="peers"),
                asyncio.create_task(node._tick(), name="ticks"),
                *(asyncio.create_task(one.run(), name=f"group-{one.group}") for one in node.groups),
            ]
            for task in tasks:
                task.add_done_callback(lambda ended: _watch_end(ended, on_fatal))
            try:
                yield node
            finally:
                for task in (*tasks, *node._tasks):
                    task.cancel()
                await asyncio.gather(*tasks, *node._tasks, return_exceptions=True)

    async def execute(
        self, group: int, command: Command, *, deadline_s: float, tag: Tag = NO_TAG
    ) -> Answer:
        """Have a command carried out by its group; returns the store's answer, perhaps `Refused`.

        Raises InvalidInput, TooLarge for one that may not enter the log; Unavailable if it was not
        carried out; OutcomeUnknown if that is not known.
        """
        check(command)
        end_s = self._clock.monotonic_s() + deadline_s
        why: ScalelabError = Unavailable("no leader is known", code="no_leader")
        while (left_s := end_s - self._clock.monotonic_s()) > 0:
            try:
                done = self._hand_on(group, command, tag)
                async with asyncio.timeout(left_s):
                    return await done
            except TimeoutError:
                raise OutcomeUnknown("no answer within the deadline") from None
            except OutcomeUnknown:
                raise
            except Retryable as error:
                why = error
            await asyncio.sleep(_AGAIN_S)
        raise why

    async def read(
        self, group: int, query: Range, *, deadline_s: float, eventual: bool = False
    ) -> Found:
        """Read a group's keys here. Not eventual: everything that was answered before is seen.

        Raises RevisionCompacted, RevisionInFuture, InvalidInput; Unavailable without a majority.
        """
        check_range(query)
        if not eventual:
            await self._barrier(group, deadline_s)
        return self.groups[group].store.find(query)

    async def _barrier(self, group: int, deadline_s: float) -> None:
        end_s = self._clock.monotonic_s() + deadline_s
        while (left_s := end_s - self._clock.monotonic_s()) > 0:
            try:
                # A question may get lost with its leader; asking again is free.
                async with asyncio.timeout(min(left_s, _READ_AGAIN_S)):
                    await self.groups[group].read_barrier()
            except TimeoutError:
                continue
            except Retryable:
                await asyncio.sleep(_AGAIN_S)
            else:
                return
        raise Unavailable("no majority confirmed the read in time", code="no_leader")

    def _hand_on(self, group: int, command: Command, tag: Tag) -> asyncio.Future[Answer]:
        driver = self.groups[group]
        if driver.leads:
            return driver.submit(command, tag.session, tag.sequence, tag.acknowledged_below)
        leader = driver.raft.leader
        if not leader:
            raise NotLeader("no leader is known", leader_id=0)
        self._next_ask += 1
        number = self._next_ask
        ask = Ask(number, group, command, tag.session, tag.sequence, tag.acknowledged_below)
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if not self.links.send(leader, ask):
            raise Unavailable(f"node {leader} leads and cannot be reached", retry_after_s=0.1)
        self._asked[number] = done
        done.add_done_callback(lambda _: self._asked.pop(number, None))
        return done

    def _receive(self, sender: int, frame: Frame) -> None:
        try:
            self._take(sender, frame)
        except InvariantBroken as error:
            self._on_fatal(error)

    def _take(self, sender: int, frame: Frame) -> None:
        match frame:
            case Routed(group, message) if group < GROUPS and message.sender == sender:
                if message.to == self.config.node_id:
                    self.groups[group].receive(message)
            case Ask() if frame.group < GROUPS:
                self._answer(sender, frame)
            case Told(number, answer):
                done = self._asked.get(number)
                if done is not None and not done.done():
                    done.set_result(answer)
            case TurnedAway(number, code, message):
                done = self._asked.get(number)
                if done is not None and not done.done():
                    unknown = code == OutcomeUnknown.code
                    kind = OutcomeUnknown if unknown else Unavailable
                    done.set_exception(kind(message, code=code, retry_after_s=0.05))
            case _:
                self._log.warning("frame out of place", peer=sender)

    def _answer(self, asker: int, ask: Ask) -> None:
        """Carry out what a follower was asked; it is told of anything but silence."""
        try:
            done = self.groups[ask.group].submit(
                ask.command, ask.session, ask.sequence, ask.acknowledged_below
            )
        except Retryable as error:
            self.links.send(asker, TurnedAway(ask.number, error.stable_code, error.message))
            return
        done.add_done_callback(lambda ended: self._tell(asker, ask.number, ended))

    def _tell(self, asker: int, number: int, done: asyncio.Future[Answer]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self.links.send(asker, Told(number, done.result()))
        elif isinstance(error, ScalelabError):
            self.links.send(asker, TurnedAway(number, error.stable_code, error.message))

    def _sender(self, group: int) -> Callable[[int, Message], None]:
        def send(to: int, message: Message) -> None:
            self.links.send(to, Routed(group, message))

        return send

    async def _tick(self) -> None:
        """Ticks for all groups. One that is late is not made up for: a process that stood still
        has no right to believe that others were silent."""
        while True:
            await asyncio.sleep(self.config.tick_ms / 1000)
            for driver in self.groups:
                driver.tick()
            opened = self._writer.log
            if len(opened.segments) > _PINNED_SEGMENTS:
                for group in opened.pinning():
                    self.groups[group].snapshot_now()


def _watch_end(task: asyncio.Task[None], on_fatal: Callable[[BaseException], None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        on_fatal(error)


def _known_peers(folder: Path) -> dict[int, str]:
    with contextlib.suppress(FileNotFoundError):
        content: dict[str, str] = json.loads((folder / _PEERS_FILE).read_bytes())
        return {int(node): store for node, store in content.items()}
    return {}


def _remember_peers(folder: Path, known: Mapping[int, str]) -> None:
    content = {str(node): store for node, store in sorted(known.items())}
    write_whole(folder / _PEERS_FILE, json.dumps(content) + "\n", mode=0o600)
