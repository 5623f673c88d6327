"""The mail sink keeps what it takes, in order, and no more than it was told to."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage
from pathlib import Path

import pytest

from month3_messaging.jobs.mail_sink import MailFolder, Reception, receiving
from month3_messaging.jobs.post import PostSettings, send
from scalelab.errors import InvalidInput, Unavailable


def mail(number: int, size: int = 10) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"] = "shop@shop.example", "ada@shop.example"
    made["Subject"], made["Message-ID"] = f"mail {number}", f"<{number}@shop.example>"
    made.set_content("x" * size)
    return made


async def test_a_mail_is_on_disk_before_it_is_answered(tmp_path: Path) -> None:
    """With its envelope; the newest `keep` stay."""
    folder = MailFolder(tmp_path, keep=2)
    async with receiving(Reception(folder), host="127.0.0.1", port=0) as port:
        for number in (1, 2, 3):
            await asyncio.to_thread(send, mail(number), PostSettings("127.0.0.1", port))
            assert folder.numbers()[-1] == number
    assert [one.subject for one in folder.mails()] == ["mail 2", "mail 3"]
    assert folder.mails()[0].recipients == ["ada@shop.example"]


async def test_a_mail_that_is_too_large_is_refused_for_good(tmp_path: Path) -> None:
    """552: no retry mends it."""
    folder = MailFolder(tmp_path)
    async with receiving(Reception(folder), host="127.0.0.1", port=0, largest_bytes=2048) as port:
        with pytest.raises(InvalidInput) as told:
            await asyncio.to_thread(send, mail(1, 10_000), PostSettings("127.0.0.1", port))
    assert told.value.stable_code == "mail_refused"
    assert folder.numbers() == []


async def test_a_folder_that_takes_nothing_defers_the_mail(tmp_path: Path) -> None:
    """452: the sender comes again."""
    folder = MailFolder(tmp_path / "gone")
    async with receiving(Reception(folder), host="127.0.0.1", port=0) as port:
        with pytest.raises(Unavailable) as told:
            await asyncio.to_thread(send, mail(1), PostSettings("127.0.0.1", port))
    assert told.value.stable_code == "mail_deferred"


async def test_no_mail_server_is_told_apart_from_silence(tmp_path: Path) -> None:
    """Refused at the door: nothing was sent."""
    async with receiving(Reception(MailFolder(tmp_path)), host="127.0.0.1", port=0) as port:
        pass
    with pytest.raises(Unavailable) as told:
        await asyncio.to_thread(send, mail(1), PostSettings("127.0.0.1", port))
    assert told.value.stable_code == "mail_unavailable"
