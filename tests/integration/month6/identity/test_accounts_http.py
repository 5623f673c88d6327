"""Claims about registering and logging in, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import httpx
import psycopg
import pytest

from month6_capstone.identity import SeedUser, hash_password, seed_users
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.security import StaticJwks, TokenVerifier
from tests.integration.month6.identity.conftest import AUDIENCE, ISSUER, Bureau, build_bureau

EMAIL, PASSWORD = "demo@example.com", "correct horse battery"


async def verifier(bureau: Bureau) -> TokenVerifier:
    document = (await bureau.client.get("/.well-known/jwks.json")).json()
    return TokenVerifier(StaticJwks(document), ISSUER, AUDIENCE, SystemClock())


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_who_registers_can_log_in_and_is_named_in_the_token(bureau: Bureau) -> None:
    """201 with a user id; 200 with a token of scope shop for 15 minutes that the keys verify."""
    registered = await bureau.register(EMAIL, PASSWORD)
    assert registered.status_code == 201
    answer = await bureau.login("  Demo@Example.COM ", PASSWORD)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    grant = answer.json()
    assert (grant["token_type"], grant["expires_in"], grant["scope"]) == ("Bearer", 900, "shop")
    principal = await (await verifier(bureau)).verify(grant["access_token"])
    assert principal.subject == registered.json()["user_id"]
    assert UUID(principal.subject).version == 7
    assert principal.scopes == {"shop"}
    left = principal.expires_at - SystemClock().now()
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


async def test_an_address_is_taken_once_however_it_is_spelt(bureau: Bureau) -> None:
    """The second registration is 409 email_taken, and the first password stays."""
    await bureau.register(EMAIL, PASSWORD)
    assert code(await bureau.register("DEMO@example.com", "another password")) == (
        409,
        "email_taken",
    )
    assert (await bureau.login(EMAIL, PASSWORD)).status_code == 200


async def test_of_racing_registrations_one_wins(bureau: Bureau) -> None:
    """The unique index decides, not a look before."""
    answers = await asyncio.gather(*(bureau.register(EMAIL, PASSWORD) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19


async def test_unknown_address_and_wrong_password_are_one_answer(bureau: Bureau) -> None:
    """Same status, same code, same words: a login does not tell who has an account."""
    await bureau.register(EMAIL, PASSWORD)
    wrong = await bureau.login(EMAIL, "wrong password")
    unknown = await bureau.login("nobody@example.com", PASSWORD)
    impossible = await bureau.login("not an address", "x")
    assert code(wrong) == code(unknown) == code(impossible) == (401, "credentials_wrong")
    assert wrong.json()["detail"] == unknown.json()["detail"] == impossible.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"email": "demo", "password": PASSWORD},
        {"email": EMAIL, "password": "short"},
        {"email": EMAIL, "password": "x" * 129},
        {"email": EMAIL},
        {"email": EMAIL, "password": PASSWORD, "scopes": ["internal"]},
        {"email": ["a"], "password": PASSWORD},
    ],
)
async def test_a_registration_that_breaks_a_rule_makes_nothing(
    bureau: Bureau, body: dict[str, object]
) -> None:
    """422, and no row; a field that is not the caller's to set is refused too."""
    answer = await bureau.client.post("/api/v1/auth/register", json=body)
    assert code(answer) == (422, "invalid_input")
    with psycopg.connect(bureau.settings.database_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM user_account").fetchone() == (0,)


async def test_a_password_is_stored_as_argon2id_only(bureau: Bureau) -> None:
    """The table holds a salted hash with its parameters, different for equal passwords."""
    await bureau.register(EMAIL, PASSWORD)
    await bureau.register("second@example.com", PASSWORD)
    with psycopg.connect(bureau.settings.database_dsn) as connection:
        hashes = [row[0] for row in connection.execute("SELECT password_hash FROM user_account")]
    assert all(stored.startswith("$argon2id$v=19$m=8,t=1,p=1$") for stored in hashes)
    assert len(set(hashes)) == 2


async def test_guessing_is_slowed_where_it_happens_only(bureau: Bureau) -> None:
    """After five failures the sixth is 429 with Retry-After, right password or not; the owner
    elsewhere still gets in."""
    await bureau.register(EMAIL, PASSWORD)
    guesses = [await bureau.login(EMAIL, f"guess {n:04d}", "203.0.113.1") for n in range(5)]
    assert {answer.status_code for answer in guesses} == {401}
    refused = await bureau.login(EMAIL, PASSWORD, "203.0.113.1")
    assert code(refused) == (429, "login_throttled")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await bureau.login(EMAIL, PASSWORD, "203.0.113.2")).status_code == 200


async def test_parallel_guesses_do_not_slip_past_the_limit(bureau: Bureau) -> None:
    """Thirty at once: five are judged."""
    await bureau.register(EMAIL, PASSWORD)
    answers = await asyncio.gather(*(bureau.login(EMAIL, f"guess {n:04d}") for n in range(30)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(401), statuses.count(429)) == (5, 25)


async def test_an_outage_of_the_database_costs_no_attempt(bureau: Bureau) -> None:
    """503 while it is away; afterwards the whole allowance is there."""
    await bureau.register(EMAIL, PASSWORD)
    with psycopg.connect(bureau.settings.database_dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE user_account RENAME TO hidden")
        for _ in range(8):
            assert (await bureau.login(EMAIL, PASSWORD)).status_code >= 500
        connection.execute("ALTER TABLE hidden RENAME TO user_account")
    assert (await bureau.login(EMAIL, PASSWORD)).status_code == 200


async def test_a_database_that_is_away_is_503_and_not_ready(bureau: Bureau) -> None:
    """The keys are still published: verifiers need no database."""
    lost = build_bureau(
        bureau.settings.model_copy(update={"database_dsn": "postgresql://x@127.0.0.1:1/x"})
    )
    async with lost.app.router.lifespan_context(lost.app), lost.client:
        answer = await lost.login(EMAIL, PASSWORD)
        assert answer.status_code == 503
        assert (await lost.client.get("/health/ready")).status_code == 503
        assert (await lost.client.get("/.well-known/jwks.json")).status_code == 200


async def test_seeded_users_share_a_hash_and_log_in(bureau: Bureau) -> None:
    """A demonstration's users come in one statement and are ordinary accounts; again adds none."""
    users = [SeedUser(f"user-{n}", f"Shopper-{n}@example.com") for n in range(300)]
    stored = hash_password(PASSWORD, bureau.settings.argon2_costs)
    async with Database(PostgresSettings(bureau.settings.database_dsn), name="seed") as database:
        now = SystemClock().now()
        assert await seed_users(database, users, password_hash=stored, now=now) == 300
        assert await seed_users(database, users, password_hash=stored, now=now) == 0
    answer = await bureau.login("shopper-299@example.com", PASSWORD)
    principal = await (await verifier(bureau)).verify(answer.json()["access_token"])
    assert principal.subject == "user-299"
