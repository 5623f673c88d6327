"""A mail server that keeps what it is sent and passes nothing on (aiosmtpd), with a page to look.

    <folder>/00000001.eml   the first mail, as it came, envelope in X-Envelope-… headers on top

A mail is written and synced before its 250: what the sender knows to be taken survives kill -9.
It listens on loopback, without passwords and TLS: it is for the lab, and for nobody's real mail.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Annotated, Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from scalelab.telemetry import Telemetry
from scalelab.web import create_app

_FILE = re.compile(r"(\d{8})\.eml")


class MailSinkSettings(BaseSettings):
    """Environment variables MAIL_… . port: of the page; smtp_port: of the mail. keep: so many of
    the newest mails stay. A mail over largest_bytes is refused."""

    model_config = SettingsConfigDict(env_prefix="MAIL_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8308
    smtp_port: int = 8309
    folder: Path
    keep: Annotated[int, Field(ge=1)] = 10_000
    largest_bytes: Annotated[int, Field(ge=1024)] = 5 * 2**20
    trace_export: str = "none"
    log_level: str = "info"


class Mail(BaseModel):
    """What the page tells of a mail. number: 1 for the first that came."""

    number: int
    recipients: list[str]
    subject: str
    message_id: str
    attachments: list[str]


@dataclass(frozen=True, slots=True)
class MailFolder:
    """A folder of mails, one writer. keep: see MailSinkSettings."""

    path: Path
    keep: int = 10_000

    def add(self, content: bytes, sender: str, recipients: list[str]) -> int:
        """Keep a mail; returns its number once it is on disk."""
        numbers = self.numbers()
        number = (numbers[-1] if numbers else 0) + 1
        head = f"X-Envelope-From: {sender}\r\nX-Envelope-To: {', '.join(recipients)}\r\n"
        unfinished = self.path / f".{number:08d}"
        with unfinished.open("wb") as file:
            file.write(head.encode() + content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._file(number))
        for old in numbers[: max(0, len(numbers) + 1 - self.keep)]:
            self._file(old).unlink(missing_ok=True)
        return number

    def numbers(self) -> list[int]:
        """Of the mails that are kept, oldest first."""
        found = (_FILE.fullmatch(entry.name) for entry in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def mails(self, *, after: int = 0, limit: int | None = None) -> list[Mail]:
        """Those with numbers over `after`, oldest first, at most `limit`."""
        wanted = [number for number in self.numbers() if number > after]
        return [self._read(number) for number in wanted[:limit]]

    def _read(self, number: int) -> Mail:
        mail = message_from_bytes(self._file(number).read_bytes(), policy=policy.default)
        return Mail(
            number=number,
            recipients=[one.strip() for one in str(mail["X-Envelope-To"]).split(",")],
            subject=str(mail["Subject"] or ""),
            message_id=str(mail["Message-ID"] or ""),
            attachments=[part.get_filename() or "" for part in mail.iter_attachments()],
        )

    def _file(self, number: int) -> Path:
        return self.path / f"{number:08d}.eml"


class Reception:
    """What aiosmtpd calls for every mail."""

    def __init__(self, folder: MailFolder) -> None:
        self._folder = folder
        self._one_at_a_time = asyncio.Lock()

    async def handle_DATA(  # noqa: N802 - the library's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep the mail, then say so; 452 (try later) when the disk does not take it."""
        content = envelope.content
        assert isinstance(content, bytes)
        try:
            async with self._one_at_a_time:
                number = await asyncio.to_thread(
                    self._folder.add, content, envelope.mail_from or "", envelope.rcpt_tos
                )
        except OSError as error:
            return f"452 not kept: {error.strerror}"
        return f"250 kept as {number}"


@asynccontextmanager
async def receiving(
    handler: Any, *, host: str, port: int, largest_bytes: int = 5 * 2**20
) -> AsyncGenerator[int]:
    """Receive mail while the block runs; yields the port. port 0 takes a free one."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, data_size_limit=largest_bytes, hostname="mail.shop.example"),
        host,
        port,
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def create(settings: MailSinkSettings, telemetry: Telemetry) -> FastAPI:
    """The application: GET /mails, and the mail port for as long as its lifespan."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    folder = MailFolder(settings.folder, settings.keep)
    router = APIRouter()

    @router.get("/mails")
    async def mails(  # pyright: ignore[reportUnusedFunction] - registered
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    ) -> list[Mail]:
        """Mails that are kept, with numbers over `after`, oldest first."""
        return await asyncio.to_thread(folder.mails, after=after, limit=limit)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        async with receiving(
            Reception(folder),
            host=settings.host,
            port=settings.smtp_port,
            largest_bytes=settings.largest_bytes,
        ):
            yield

    return create_app(telemetry=telemetry, routers=[router], lifespan=lifespan, title="Mail")
