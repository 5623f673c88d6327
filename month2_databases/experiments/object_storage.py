"""How much is sent again when an upload breaks off?

The server is killed after each part in turn. Who gives the upload up and begins again pays for all
that was sent; who goes on does not, because the server keeps the parts and tells their hashes.
Beside it: which links the server refuses.
"""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from dataclasses import dataclass, replace

from month2_databases.archive import Source, give_up, upload
from scalelab.clients.s3 import SMALLEST_PART_BYTES, ObjectStore, S3Settings
from scalelab.errors import NotFound, ScalelabError
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import VersityGw

_BUCKET = "uploads"


@dataclass(frozen=True, slots=True)
class Broken:
    """Of one kill. sent: parts sent by both tries. half: something could be read in between."""

    killed_after: int
    sent: int
    half: bool
    whole: bool


@dataclass(frozen=True, slots=True)
class Links:
    """HTTP status of a link as it is, altered, for another object, and without its signature."""

    right: int
    altered: int
    other: int
    bare: int


async def break_off(
    lab: Lab, server: VersityGw, body: bytes, after: int, *, goes_on: bool
) -> Broken:
    """Kill the server after a part, start it, go on or begin again."""
    settings = S3Settings(server.endpoint, server.access_key, server.secret_key)
    key, sent = f"killed-after-{after}-{goes_on}", 0

    def kill(step: str) -> None:
        nonlocal sent
        sent += 1
        if step == f"part {after}":
            lab.runtime.kill(server.name)

    source = Source(len(body), lambda first, count: body[first : first + count])
    async with ObjectStore(replace(settings, attempts=1)) as store:
        try:
            await upload(store, _BUCKET, key, source, at=kill)
        except ScalelabError as error:
            lab.note(f"killed after part {after}: {error.stable_code}")
        await asyncio.to_thread(lab.runtime.restart, server.name)
        half = True
        try:
            await store.head(_BUCKET, key)
        except NotFound:
            half = False
        if not goes_on:
            await give_up(store, _BUCKET, key)
        report = await upload(store, _BUCKET, key, source)
        return Broken(after, sent + report.sent, half, await store.get(_BUCKET, key) == body)


async def links(server: VersityGw) -> Links:
    """A link and its neighbours."""
    settings = S3Settings(server.endpoint, server.access_key, server.secret_key)
    async with ObjectStore(settings) as store:
        for key in ("mine", "other"):
            await store.put(_BUCKET, key, key.encode())
        link = store.link("get", _BUCKET, "mine", expires_s=600)
    asked = (
        link,
        link.replace("X-Amz-Expires=600", "X-Amz-Expires=6000"),
        link.replace("/mine?", "/other?"),
        link.split("?")[0],
    )
    return Links(*[await asyncio.to_thread(_status, url) for url in asked])


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def run(lab: Lab) -> Result:
    """One server, killed after each part but the last."""
    server = VersityGw("object-storage")
    lab.runtime.start(server)
    parts = 4 if lab.quick else 8
    body = lab.random().randbytes((parts - 1) * SMALLEST_PART_BYTES + 1000)

    async def measure() -> tuple[list[Broken], list[Broken], Links]:
        settings = S3Settings(server.endpoint, server.access_key, server.secret_key)
        async with ObjectStore(settings) as store:
            await store.ensure_bucket(_BUCKET)
        again, on = [
            [
                await break_off(lab, server, body, after, goes_on=goes_on)
                for after in range(1, parts)
            ]
            for goes_on in (False, True)
        ]
        return again, on, await links(server)

    return judge(parts, *asyncio.run(measure()))


def judge(parts: int, again: list[Broken], found: list[Broken], told: Links) -> Result:
    """The arms, and what is claimed of them."""
    begun = tuple((float(one.killed_after), float(one.sent)) for one in again)
    resumed = tuple((float(one.killed_after), float(one.sent)) for one in found)
    return Result(
        arms=(
            Arm("begun again", "control", {"parts": str([one.sent for one in again])}, begun),
            Arm("gone on", "treatment", {"parts": str([one.sent for one in found])}, resumed),
        ),
        shape=(
            Claim(
                "Begun again, all that had been sent before the kill is sent twice.",
                all(one.sent == parts + one.killed_after for one in again),
                f"{[one.sent for one in again]} parts for {parts}",
            ),
            Claim(
                "Gone on, no part that the server had is sent again, wherever it was killed.",
                all(one.sent == parts for one in found),
                f"{[one.sent for one in found]} parts for {parts}",
            ),
            Claim(
                "Between the kill and the end nothing can be read; after it, all of it.",
                all(one.whole and not one.half for one in [*again, *found]),
                f"{len(again) + len(found)} uploads",
            ),
            Claim(
                "A link opens its object; altered, for another object or unsigned it is refused.",
                (told.right, told.altered, told.other, told.bare) == (200, 403, 403, 403),
                f"{told}",
            ),
        ),
        plot=Plot(Axis("killed after part"), Axis("parts sent in all")),
        notes=("versitygw keeps no lifecycle rules (it answers 501); ours run beside it.",),
    )


EXPERIMENT = Experiment(
    slug="object-storage",
    question="How much is sent again when an upload breaks off?",
    varied="after which part the server is killed; whether the upload goes on or begins again",
    fixed="one object, parts of 5 MiB, the same server started again on its data",
    run=run,
    topics=("D11", "D19"),
    needs=("versitygw",),
)
