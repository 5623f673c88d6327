"""The desk's API and page on a real database: who may, what is refused, what the audit says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from month3_messaging.broker import to_headers, to_value
from month3_messaging.deadletters import (
    Desk,
    Source,
    clean_forever,
    desk_router,
    migrate,
    page_router,
)
from month3_messaging.deadletters.letter import letter_of
from month3_messaging.deadletters.letters_postgres import park
from scalelab.clients.kafka import Record
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from scalelab.web import create_app
from tests.fixtures.databases import DatabaseOf
from tests.integration.month3.messaging_bed import make_event, poll_until
from tests.integration.month3.orders_bed import quiet_telemetry
from tests.integration.month3.orders_bed import served as on_a_port

ISSUER, AUDIENCE = "https://issuer.test", "desk"
SCRIPT = "<script>alert(1)</script>"


@dataclass
class DeskServer:
    """A served desk, and callers of it."""

    desk: Desk
    url: str
    issuer: TokenIssuer
    http: aiohttp.ClientSession

    def token(self, scope: str = "desk") -> str:
        return self.issuer.issue("ann", [scope], 600.0)

    async def park(self, offset: int = 0, value: bytes | None = None) -> int:
        """A letter whose handler said something with markup in it."""
        event = make_event("key", 13)
        headers = {**to_headers(event), "error_message": SCRIPT, "retry_attempt": "3"}
        record = Record("dlq", 0, offset, "key", value or to_value(event), headers, 0)
        async with self.desk.database.transaction() as conn:
            letter_id = await park(conn, letter_of(record, "things", "group"), "collector")
        assert letter_id is not None
        return letter_id

    async def settle(self, offset: int, what: str, *, days: int) -> int:
        """A letter on which was decided, so long ago."""
        letter_id = await self.park(offset)
        await self.call(f"/{letter_id}/{what}", {"version": 1})
        async with self.desk.database.autocommit() as conn:
            await conn.execute(
                "UPDATE dead_letter SET changed_at = now() - make_interval(days => %s),"
                " state = replace(state, 'replaying', 'replayed') WHERE id = %s",
                (days, letter_id),
            )
        return letter_id

    async def ids(self) -> list[int]:
        """Of all letters that are there."""
        return [kept.id for kept in await self.desk.list(None, limit=200)]

    async def call(self, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token()}"}
        method = "GET" if body is None else "POST"
        async with self.http.request(
            method, f"{self.url}/api/v1/letters{path}", json=body, headers=headers
        ) as answer:
            return answer.status, await answer.json()

    async def visit(
        self, path: str, form: dict[str, str] | None = None, *, origin: str | None = None
    ) -> tuple[int, str]:
        """As a browser that is signed in; a form is posted."""
        headers = {"Cookie": f"desk_token={self.token()}"}
        if form is not None:
            headers["Origin"] = origin or self.url
        method = "GET" if form is None else "POST"
        async with self.http.request(
            method, f"{self.url}{path}", data=form, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def served(database_of: DatabaseOf) -> AsyncIterator[DeskServer]:
    key = SigningKey.generate()
    verifier = TokenVerifier(StaticJwks(jwks([key])), ISSUER, AUDIENCE, SystemClock())
    async with (
        Database(PostgresSettings(database_of(migrate)), name="desk") as database,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        desk = Desk(database, [Source("group", ["things"])])
        app = create_app(
            telemetry=quiet_telemetry("desk"),
            routers=[desk_router(desk, verifier), page_router(desk, verifier)],
        )
        async with on_a_port(app) as url:
            yield DeskServer(desk, url, TokenIssuer(key, ISSUER, AUDIENCE, SystemClock()), http)


async def test_a_letter_is_edited_replayed_and_its_audit_says_by_whom(served: DeskServer) -> None:
    """Every change names the caller of the token, with the letter before and after."""
    letter_id = await served.park()
    _, shown = await served.call(f"/{letter_id}")
    assert (shown["state"], shown["attempts"], shown["key"]) == ("parked", 3, "key")
    status, edited = await served.call(
        f"/{letter_id}/edit", {"version": shown["version"], "value": '{"number":14}'}
    )
    assert status == 200
    status, away = await served.call(f"/{letter_id}/replay", {"version": edited["version"]})
    assert (status, away["state"]) == (202, "replaying")
    _, shown = await served.call(f"/{letter_id}")
    assert [(line["who"], line["what"]) for line in shown["audit"]] == [
        ("collector", "parked"),
        ("ann", "edited"),
        ("ann", "replayed"),
    ]
    line = shown["audit"][1]
    assert (line["before"]["value"], line["after"]["value"]) == ('{"number":13}', '{"number":14}')


async def test_a_repeated_decision_changes_nothing_and_a_stale_one_is_refused(
    served: DeskServer,
) -> None:
    """The same call again answers the same; a decision on an older version is a conflict."""
    letter_id = await served.park()
    for _ in range(2):
        status, gone = await served.call(f"/{letter_id}/discard", {"version": 1})
        assert (status, gone["state"], gone["version"]) == (200, "discarded", 2)
    status, problem = await served.call(f"/{letter_id}/replay", {"version": 2})
    assert (status, problem["code"]) == (409, "letter_not_parked")
    other = await served.park(offset=1)
    await served.call(f"/{other}/edit", {"version": 1, "value": "{}"})
    status, problem = await served.call(f"/{other}/replay", {"version": 1})
    assert (status, problem["code"]) == (409, "letter_changed")
    _, shown = await served.call(f"/{other}")
    assert shown["state"] == "parked"


async def test_bad_edits_are_refused_and_change_nothing(served: DeskServer) -> None:
    """Another id, no event, no letter, an unknown field: each with its code."""
    letter_id = await served.park()
    for body, status, code in (
        ({"version": 1, "headers": {"ce_id": "x"}}, 422, "event_id_stays"),
        ({"version": 1, "value": "[]"}, 422, "not_an_event"),
        ({"version": 1, "valve": "{}"}, 422, None),
    ):
        found, problem = await served.call(f"/{letter_id}/edit", body)
        assert found == status, problem
        assert code in (None, problem["code"])
    assert (await served.call("/999/replay", {"version": 1}))[0] == 404
    _, shown = await served.call(f"/{letter_id}")
    assert (shown["version"], len(shown["audit"])) == (1, 1)


async def test_nobody_without_the_scope_sees_a_letter(served: DeskServer) -> None:
    """No token, and one for the shop: neither API nor page answers."""
    for path in ("/api/v1/letters", "/desk", "/desk/letters/1"):
        shop = f"{served.token('shop')}"
        headers = {"Authorization": f"Bearer {shop}", "Cookie": f"desk_token={shop}"}
        async with served.http.get(served.url + path) as answer:
            assert answer.status == 401
        async with served.http.get(served.url + path, headers=headers) as answer:
            assert answer.status == 403


async def test_who_is_not_signed_in_is_shown_the_form(served: DeskServer) -> None:
    """A person who opens a page, with no token or one that has run out, can mend it there."""
    for path in ("/desk", "/desk/letters/1"):
        for headers in ({}, {"Cookie": "desk_token=old"}):
            async with served.http.get(served.url + path, headers=headers) as answer:
                assert answer.status == 401
                assert 'action="/desk/sign-in"' in await answer.text()


async def test_the_list_goes_on_where_the_page_ends(served: DeskServer) -> None:
    """Fifty letters on a page, and a link only if there are more."""
    for offset in range(51):
        await served.park(offset=offset)
    _, page = await served.visit("/desk")
    more = re.search(r'href="(/desk\?state=parked&after=\d+)"', page)
    assert more is not None
    assert page.count("/desk/letters/") == 50
    _, page = await served.visit(more[1])
    assert page.count("/desk/letters/") == 1
    assert ">more<" not in page
    _, page = await served.visit("/desk?state=discarded")
    assert "None is discarded." in page


async def test_the_page_shows_what_a_letter_says_as_text(served: DeskServer) -> None:
    """Markup in an event or an error is text on the page, and its policy lets nothing run."""
    letter_id = await served.park(value=b'{"name":"</textarea><b>"}')
    status, page = await served.visit(f"/desk/letters/{letter_id}")
    assert status == 200
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page
    assert "</textarea><b>" not in page
    status, page = await served.visit("/desk")
    assert (status, SCRIPT in page) == (200, False)
    async with served.http.get(f"{served.url}/desk/sign-in") as answer:
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_the_page_edits_replays_and_discards(served: DeskServer) -> None:
    """The form as it stands on the page is sent back with another value; then the button."""
    letter_id = await served.park()
    _, page = await served.visit(f"/desk/letters/{letter_id}")
    found = re.search(r'name="headers" rows="12">(.*?)</textarea>', page, re.DOTALL)
    assert found is not None
    headers = found[1].replace("&quot;", '"')
    form = {"version": "1", "headers": headers, "value": '{"number":14}'}
    assert (await served.visit(f"/desk/letters/{letter_id}/edit", form))[0] == 303
    status, page = await served.visit(f"/desk/letters/{letter_id}/replay", {"version": "1"})
    assert (status, "letter_changed" in page) == (409, True)
    assert (await served.visit(f"/desk/letters/{letter_id}/replay", {"version": "2"}))[0] == 303
    kept, _ = await served.desk.show(letter_id)
    assert (kept.letter.state, kept.letter.value) == ("replaying", b'{"number":14}')
    other = await served.park(offset=1)
    assert (await served.visit(f"/desk/letters/{other}/discard", {"version": "1"}))[0] == 303


async def test_a_form_from_elsewhere_is_refused(served: DeskServer) -> None:
    """A page of another origin, another port of this host included, decides nothing."""
    letter_id = await served.park()
    for origin in ("http://evil.test", "http://127.0.0.1:1", "null"):
        status, _ = await served.visit(
            f"/desk/letters/{letter_id}/discard", {"version": "1"}, origin=origin
        )
        assert status == 403
    kept, _ = await served.desk.show(letter_id)
    assert kept.letter.state == "parked"


async def test_a_copy_is_one_letter_and_the_audit_cannot_be_rewritten(served: DeskServer) -> None:
    """The same record twice is parked once; UPDATE and DELETE on the audit fail."""
    record = Record("dlq", 0, 5, None, b"junk\x00\xff", {"ce_id": "a\x00b"}, 0)
    letter = letter_of(record, "things", "group")
    async with served.desk.database.transaction() as conn:
        first = await park(conn, letter, "collector")
        assert await park(conn, replace(letter, attempts=9), "collector") is None
    assert first is not None
    kept, lines = await served.desk.show(first)
    assert (kept.letter.value, kept.letter.headers) == (b"junk\x00\xff", {"ce_id": "a\x00b"})
    assert len(lines) == 1
    for statement in (b"UPDATE dead_letter_audit SET who = 'x'", b"DELETE FROM dead_letter_audit"):
        with pytest.raises(Exception, match="only ever added to"):
            async with served.desk.database.transaction() as conn:
                await conn.execute(statement)


async def test_settled_letters_leave_when_they_are_old_and_the_audit_says_so(
    served: DeskServer,
) -> None:
    """Replayed and discarded ones; one line of each stays, without what the letter held."""
    old = [await served.settle(n, what, days=40) for n, what in enumerate(("replay", "discard"))]
    young = await served.settle(2, "discard", days=20)
    status, told = await served.call("/clean", {"older_than_s": 30 * 86_400})
    assert (status, told) == (200, {"cleaned": 2})
    assert await served.ids() == [young]
    assert (await served.call(f"/{old[1]}"))[0] == 404
    _, [line] = await served.call(f"/{old[1]}/audit")
    assert (line["who"], line["what"], line["before"]) == ("ann", "cleaned", None)
    assert (line["after"]["state"], line["after"]["group"]) == ("discarded", "group")
    steps = [(step["who"], step["what"]) for step in line["after"]["steps"]]
    assert steps == [("collector", "parked"), ("ann", "discarded")]
    assert SCRIPT not in str(line)
    _, lines = await served.call(f"/{young}/audit")
    assert [one["what"] for one in lines] == ["parked", "discarded"]
    assert (await served.call("/999/audit"))[0] == 404


async def test_letters_that_wait_stay_however_old_they_are(served: DeskServer) -> None:
    """For a decision, or to be sent."""
    waiting = [await served.park(), await served.park(offset=1)]
    await served.call(f"/{waiting[1]}/replay", {"version": 1})
    async with served.desk.database.autocommit() as conn:
        await conn.execute(
            "UPDATE dead_letter SET changed_at = '2001-01-01', parked_at = '2001-01-01'"
        )
    assert await served.call("/clean", {"older_than_s": 86_400}) == (200, {"cleaned": 0})
    assert await served.ids() == waiting


async def test_a_clean_up_takes_a_bounded_number_and_the_oldest_first(served: DeskServer) -> None:
    """And what it is asked for is checked: a day at least, a limit, no other field."""
    ages = (40, 50, 45)
    letters = [await served.settle(n, "discard", days=days) for n, days in enumerate(ages)]
    for body in (
        {"older_than_s": 60},
        {"older_than_s": "inf"},
        {"older_than_s": 86_400, "limit": 0},
        {"older_than_s": 86_400, "state": "parked"},
    ):
        assert (await served.call("/clean", body))[0] == 422
    assert await served.ids() == letters
    assert await served.call("/clean", {"older_than_s": 86_400, "limit": 2}) == (
        200,
        {"cleaned": 2},
    )
    assert await served.ids() == [letters[0]]


async def test_the_desk_cleans_up_by_itself(served: DeskServer) -> None:
    """After the time that it is told."""
    letters = [
        await served.settle(0, "discard", days=40),
        await served.settle(1, "discard", days=1),
    ]
    log = quiet_telemetry("desk").log
    cleaning = asyncio.create_task(
        clean_forever(served.desk, keep_s=30 * 86_400.0, every_s=0.05, log=log)
    )
    try:

        async def is_clean() -> bool:
            return await served.ids() == letters[1:]

        await poll_until(is_clean, "the old letter is gone")
    finally:
        cleaning.cancel()
        await asyncio.gather(cleaning, return_exceptions=True)
    _, [line] = await served.call(f"/{letters[0]}/audit")
    assert (line["who"], line["what"]) == ("clean-up", "cleaned")
