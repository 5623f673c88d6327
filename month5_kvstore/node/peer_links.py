"""One connection to each peer, for all groups: dialled again and again, written in batches.

Each node dials every other one and sends on the connection it dialled. What cannot be sent is
dropped, as a network may: Raft sends again, and whoever asked something has a deadline. A peer that
reads nothing (frozen, cut off) fills its queue to a bound and costs nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from month5_kvstore.log import Identity, WrongIdentity, admit
from month5_kvstore.node.peer_frames import Frame, Frames, Hello, encode
from scalelab.errors import CorruptData, ScalelabError
from scalelab.telemetry import Log

QUEUE_BYTES_MAX = 64 << 20
_HELLO_S = 5.0
_STUCK_S = 10.0
_AGAIN_S = 0.2
_READ_BYTES = 256 * 1024


class _Outgoing:
    """What waits to be sent to one peer."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.size = 0
        self.ready = asyncio.Event()
        self.open = False

    def take(self) -> bytes:
        data = b"".join(self.frames)
        self.frames.clear()
        self.size = 0
        self.ready.clear()
        return data


class PeerLinks:
    """Connections of one node. receive: gets (sender's node id, frame) in order of arrival.

    addresses: of all other nodes, host and port. known: store ids of peers that were met before;
    remember: called with all of them when a new one was met, before it is listened to.
    """

    def __init__(
        self,
        identity: Identity,
        groups: int,
        addresses: Mapping[int, tuple[str, int]],
        *,
        known: Mapping[int, str],
        remember: Callable[[Mapping[int, str]], None],
        receive: Callable[[int, Frame], None],
        log: Log,
    ) -> None:
        self._identity = identity
        self._groups = groups
        self._addresses = dict(addresses)
        self._known = dict(known)
        self._remember = remember
        self._receive = receive
        self._log = log
        self._outgoing = {peer: _Outgoing() for peer in addresses}
        self._incoming: set[asyncio.Task[None]] = set()

    def send(self, to: int, frame: Frame) -> bool:
        """Hand a frame to the connection; False if it was dropped."""
        outgoing = self._outgoing.get(to)
        if outgoing is None or not outgoing.open or outgoing.size > QUEUE_BYTES_MAX:
            return False
        data = encode(frame)
        outgoing.frames.append(data)
        outgoing.size += len(data)
        outgoing.ready.set()
        return True

    @property
    def connected(self) -> tuple[int, ...]:
        """Peers with an open connection."""
        return tuple(peer for peer, outgoing in self._outgoing.items() if outgoing.open)

    async def run(self, host: str, port: int) -> None:
        """Listen and dial until cancelled. Raises OSError if the port is taken."""
        server = await asyncio.start_server(self._accept, host, port)
        try:
            async with asyncio.TaskGroup() as tasks:
                for peer in self._addresses:
                    tasks.create_task(self._dial(peer), name=f"peer-{peer}")
        finally:
            server.close()
            for task in list(self._incoming):
                task.cancel()
            await asyncio.gather(*self._incoming, return_exceptions=True)

    async def _dial(self, peer: int) -> None:
        host, port = self._addresses[peer]
        refused = ""
        while True:
            try:
                async with asyncio.timeout(_HELLO_S):
                    reader, writer = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError):
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                await self._converse(peer, reader, writer)
            except (OSError, TimeoutError, EOFError, RuntimeError):
                pass  # uvloop has a RuntimeError for a write to what was closed just now
            except ScalelabError as error:
                if error.stable_code != refused:
                    self._log.warning("peer refused", peer=peer, code=error.stable_code)
                refused = error.stable_code
            finally:
                self._outgoing[peer].open = False
                self._outgoing[peer].take()
                writer.close()
                with contextlib.suppress(OSError, RuntimeError):
                    await writer.wait_closed()
            await asyncio.sleep(_AGAIN_S)

    async def _converse(
        self, peer: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(encode(self._hello()))
        async with asyncio.timeout(_HELLO_S):
            frames = Frames()
            hello, _ = await _first(reader, frames)
        self._admit(hello)
        if hello.node_id != peer:
            raise WrongIdentity(f"node {hello.node_id} answers for {peer}", code="wrong_node")
        outgoing = self._outgoing[peer]
        outgoing.take()
        outgoing.open = True
        ended = asyncio.create_task(reader.read(1), name=f"end-of-peer-{peer}")
        try:
            while not ended.done():
                waiting = asyncio.create_task(outgoing.ready.wait())
                await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if ended.done() or writer.is_closing():
                    break
                writer.write(outgoing.take())
                async with asyncio.timeout(_STUCK_S):
                    await writer.drain()
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._incoming.add(task)
        try:
            await self._listen(reader, writer)
        except (OSError, TimeoutError, EOFError, RuntimeError):
            pass
        except asyncio.CancelledError:
            pass  # the node stops; nobody else awaits this task
        except ScalelabError as error:
            self._log.warning("peer turned away", code=error.stable_code, why=error.message)
        finally:
            self._incoming.discard(task)
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames()
        async with asyncio.timeout(_HELLO_S):
            hello, rest = await _first(reader, frames)
        writer.write(encode(self._hello()))
        self._admit(hello)
        for frame in rest:
            self._receive(hello.node_id, frame)
        while data := await reader.read(_READ_BYTES):
            for frame in frames.feed(data):
                self._receive(hello.node_id, frame)

    def _hello(self) -> Hello:
        own = self._identity
        return Hello(own.cluster_id, own.node_id, own.store_id, self._groups)

    def _admit(self, hello: Hello) -> None:
        peer = Identity(hello.cluster_id, hello.node_id, hello.store_id)
        known = admit(self._known, self._identity, peer)
        if hello.groups != self._groups:
            raise WrongIdentity("a peer counts other groups", code="wrong_group_count")
        if hello.node_id not in self._addresses:
            raise WrongIdentity(f"node {hello.node_id} is not of this cluster", code="unknown_node")
        if known != self._known:
            self._remember(known)
            self._known = known


async def _first(reader: asyncio.StreamReader, frames: Frames) -> tuple[Hello, list[Frame]]:
    """The hello, and what came with it. Raises EOFError, CorruptData."""
    while data := await reader.read(_READ_BYTES):
        found = list(frames.feed(data))
        if found:
            hello = found[0]
            if not isinstance(hello, Hello):
                raise CorruptData("a peer did not say hello")
            return hello, found[1:]
    raise EOFError
