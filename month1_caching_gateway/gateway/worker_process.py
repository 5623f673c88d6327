"""A worker as its supervisor sees it: a child process and the channel to it."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
from collections.abc import Sequence
from typing import Any

from month1_caching_gateway.gateway.channel import Channel, Message
from month1_caching_gateway.gateway.process_settings import ProcessSettings
from month1_caching_gateway.gateway.route_file import Document
from scalelab.errors import InvalidInput, Unavailable

_READY_WITHIN_S = 120.0
_ANSWER_WITHIN_S = 30.0
_MODULE = "month1_caching_gateway.gateway.worker"


class WorkerProcess:
    """A started child. ended: set once it is gone, however it went. number: of its listener."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number = number
        self.pid = process.pid
        self.ended = asyncio.Event()
        self._process = process
        self._channel = channel
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._ready: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._listen(), name=f"worker-{number}")

    @classmethod
    async def start(
        cls,
        number: int,
        listeners: Sequence[socket.socket],
        settings: ProcessSettings,
        document: Document,
    ) -> WorkerProcess:
        """Fork, tell it what to serve, return when it listens. Raises Unavailable if it ends."""
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(listener.fileno() for listener in listeners)]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _MODULE,
                *map(str, fds),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=fds,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = cls(number, process, await Channel.over(ours))
        await worker._begin(settings, document)
        return worker

    async def _begin(self, settings: ProcessSettings, document: Document) -> None:
        first: Message = {
            "settings": settings.model_dump(mode="json"),
            "document": document.text,
            "name": document.name,
            "number": self.number,
        }
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await self._channel.send(first)
                await self._ready
        except TimeoutError as error:
            await self.kill()
            raise Unavailable("a worker did not serve in time", code="worker_failed") from error
        except BaseException:
            await self.kill()
            raise

    async def ask(self, do: str, **arguments: Any) -> Message:
        """Have something done. Raises InvalidInput if it refuses, Unavailable if it is gone."""
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await self._channel.send({"id": number, "do": do, **arguments})
                got = await answer
        except TimeoutError as error:
            raise Unavailable(f"worker {self.number} does not answer") from error
        finally:
            self._waiting.pop(number, None)
        if "error" in got:
            raise InvalidInput(str(got["error"]))
        return got

    async def drain(self, within_s: float) -> None:
        """Let it finish what runs, then wait for its end; killed after `within_s`."""
        await self._channel.send({"do": "drain"})
        try:
            async with asyncio.timeout(within_s):
                await self.ended.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process.returncode is None:
            self._process.kill()
        await self.ended.wait()

    async def _listen(self) -> None:
        try:
            while (message := await self._channel.receive()) is not None:
                if "ready" in message and not self._ready.done():
                    self._ready.set_result(message)
                else:
                    self._answered(message)
        finally:
            self._channel.close()
            await self._process.wait()
            self.ended.set()
            gone = Unavailable("a worker ended", code="worker_failed")
            for one in (self._ready, *self._waiting.values()):
                if not one.done():
                    one.set_exception(gone)
                    one.exception()  # noted: whoever waits for it has it, and often nobody does

    def _answered(self, message: Message) -> None:
        waiting = self._waiting.get(int(message.get("to", -1)))
        if waiting is not None and not waiting.done():
            waiting.set_result(message)
